# Slim image without Paddle, for prepare-dataset, split-labels and finish.
#   docker build -f docker/data.Dockerfile -t cps-pipeline/data:VERSION .
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /build
COPY pyproject.toml requirements.lock ./
# kfp without its dependencies: a step's process imports none of them. uv's cache is not part of the image.
RUN awk '/^[a-z0-9]/ {keep = /^uv==/} keep' requirements.lock > uv.lock \
 && awk '/^[a-z0-9]/ {keep = /^kfp==/} keep' requirements.lock > kfp.lock \
 && python3 -m venv /opt/uv \
 && /opt/uv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r uv.lock \
 && /opt/uv/bin/uv venv --python "$(command -v python3)" /opt/cps \
 && /opt/uv/bin/uv pip install --python /opt/cps/bin/python --compile-bytecode \
      --require-hashes -c requirements.lock -r pyproject.toml --extra annotations --extra heic --extra tracking \
 && /opt/uv/bin/uv pip install --python /opt/cps/bin/python --compile-bytecode \
      --no-deps --require-hashes -r kfp.lock
COPY components /opt/cps/app/components
RUN /opt/cps/bin/python -m compileall -q /opt/cps/app

FROM ${BASE}
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
LABEL org.opencontainers.image.title="cps-pipeline/data" \
      org.opencontainers.image.description="Dataset steps of the Cross Pseudo Supervision pipeline" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
