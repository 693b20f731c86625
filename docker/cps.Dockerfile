# Image for every step, with Paddle. The MLflow server of manifests/components/mlflow uses it too.
#   docker build -f docker/cps.Dockerfile -t cps-pipeline/cps:VERSION .
# For GPUs, start from one of Paddle's images that has Python 3.11 and paddlepaddle-gpu 3.3.1 (untested):
#   docker build -f docker/cps.Dockerfile -t cps-pipeline/cps:VERSION-gpu --build-arg BASE=paddlepaddle/paddle:TAG --build-arg PADDLE=base .
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
# lock: paddlepaddle (CPU) from requirements.lock.  base: the version that the base image contains.
ARG PADDLE=lock
WORKDIR /build
COPY pyproject.toml requirements.lock ./
RUN awk '/^[a-z0-9]/ {keep = /^uv==/} keep' requirements.lock > uv.lock \
 && python3 -m venv /opt/uv \
 && /opt/uv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r uv.lock
# kfp without its dependencies: a step's process imports none of them. uv's cache is not part of the image.
RUN case "${PADDLE}" in \
      lock) touch excluded.txt; site= ;; \
      base) echo paddlepaddle > excluded.txt; site=--system-site-packages ;; \
      *) echo "PADDLE is ${PADDLE}; it must be lock or base" >&2; exit 2 ;; \
    esac \
 && /opt/uv/bin/uv venv --python "$(command -v python3)" ${site} /opt/cps \
 && /opt/uv/bin/uv pip install --python /opt/cps/bin/python --require-hashes -c requirements.lock \
      --excludes excluded.txt -r pyproject.toml --group paddleseg \
      --extra train --extra annotations --extra heic --extra tracking --extra mlflow-server \
 && awk '/^[a-z0-9]/ {keep = /^kfp==/} keep' requirements.lock > kfp.lock \
 && /opt/uv/bin/uv pip install --python /opt/cps/bin/python --no-deps --require-hashes -r kfp.lock \
 && libraries=$(/opt/cps/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
 && for package in kfp minio mlflow numpy paddle paddleseg pandas pydantic sklearn; do \
      if [ -d "${libraries}/${package}" ]; then /opt/cps/bin/python -m compileall -q -j 0 "${libraries}/${package}"; fi; \
    done
COPY components /opt/cps/app/components
RUN /opt/cps/bin/python -m compileall -q /opt/cps/app

FROM ${BASE}
# Paddle links against the OpenMP runtime, which the slim base lacks. Debian offers a single version, so there is no pin.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends libgomp1 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/cps /opt/cps
# No ENTRYPOINT: KFP supplies the whole command; an entry point would swallow it and still report success.
# The root may be read-only; only /tmp must be writable.
ENV PATH=/opt/cps/bin:$PATH \
    PYTHONPATH=/opt/cps/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    CPS_CACHE=/tmp/cps-cache
WORKDIR /tmp
# A numeric id, so that Kubernetes can verify that the user is not root.
USER 65532:65532
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="cps-pipeline/cps" \
      org.opencontainers.image.description="Cross Pseudo Supervision: training, evaluation and prediction steps" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
