from pathlib import Path

import pytest

from components.errors import UserError
from components.storage.settings import StoreSettings, settings_from_environment

COMPLETE = {
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9000/",
    "AWS_ACCESS_KEY_ID": "user",
    "AWS_SECRET_ACCESS_KEY": "hidden",
}


def test_reads_the_usual_names() -> None:
    settings = settings_from_environment(COMPLETE | {"AWS_DEFAULT_REGION": "eu-central-1", "CPS_BUCKET": "masks"})
    assert settings == StoreSettings(
        endpoint="http://127.0.0.1:9000",
        access_key="user",
        secret_key="hidden",
        region="eu-central-1",
        bucket="masks",
    )
    assert settings.host == "127.0.0.1:9000"
    assert not settings.secure


def test_defaults() -> None:
    settings = settings_from_environment(COMPLETE)
    assert (settings.region, settings.bucket) == ("us-east-1", "cps")


def test_the_secret_is_not_shown() -> None:
    assert "hidden" not in repr(settings_from_environment(COMPLETE))


def test_missing_names_are_listed() -> None:
    with pytest.raises(UserError, match="set AWS_ENDPOINT_URL, AWS_SECRET_ACCESS_KEY"):
        settings_from_environment({"AWS_ACCESS_KEY_ID": "user"})


@pytest.mark.parametrize(
    "endpoint",
    ["localhost:9000", "ftp://host", "http://", "http://host:port", "http://[::1", "http://host:9000/bucket"],
)
def test_a_malformed_endpoint_is_quoted(endpoint: str) -> None:
    with pytest.raises(UserError) as caught:
        settings_from_environment(COMPLETE | {"AWS_ENDPOINT_URL": endpoint})
    assert repr(endpoint) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_credentials_in_the_endpoint_are_refused_without_repeating_them() -> None:
    with pytest.raises(UserError) as caught:
        settings_from_environment(COMPLETE | {"AWS_ENDPOINT_URL": "http://user:hidden@host:9000"})
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("bucket", ["a", "Upper", "under_score", "-start", "a" * 64])
def test_a_malformed_bucket_is_quoted(bucket: str) -> None:
    with pytest.raises(UserError, match="CPS_BUCKET"):
        settings_from_environment(COMPLETE | {"CPS_BUCKET": bucket})


ENDPOINT = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9000"}
PROFILES = """[default]
aws_access_key_id = user
aws_secret_access_key = hid%den
[reader]
aws_access_key_id = reader
aws_secret_access_key = secret
aws_session_token = token
"""


def test_keys_from_mounted_secret_files(tmp_path: Path) -> None:
    (tmp_path / "access").write_text("user\n")
    (tmp_path / "secret").write_text("hidden\n")
    files = {
        "AWS_ACCESS_KEY_ID_FILE": str(tmp_path / "access"),
        "AWS_SECRET_ACCESS_KEY_FILE": str(tmp_path / "secret"),
    }
    settings = settings_from_environment(ENDPOINT | files)
    assert (settings.access_key, settings.secret_key) == ("user", "hidden")
    # What the environment says itself comes first.
    assert settings_from_environment(ENDPOINT | files | {"AWS_ACCESS_KEY_ID": "me"}).access_key == "me"
    (tmp_path / "secret").write_text("")
    with pytest.raises(UserError, match=r"AWS_SECRET_ACCESS_KEY_FILE=.* is empty"):
        settings_from_environment(ENDPOINT | files)
    (tmp_path / "secret").unlink()
    with pytest.raises(UserError, match=r"AWS_SECRET_ACCESS_KEY_FILE=.* cannot be read: No such file"):
        settings_from_environment(ENDPOINT | files)


def test_keys_from_a_shared_credentials_file(tmp_path: Path) -> None:
    file = tmp_path / ".aws" / "credentials"
    file.parent.mkdir()
    file.write_text(PROFILES)
    named = ENDPOINT | {"AWS_SHARED_CREDENTIALS_FILE": str(file)}
    at_home = ENDPOINT | {"HOME": str(tmp_path)}
    for environ in (named, at_home):
        settings = settings_from_environment(environ)
        assert (settings.access_key, settings.secret_key, settings.session_token) == ("user", "hid%den", "")
        other = settings_from_environment(environ | {"AWS_PROFILE": "reader"})
        assert (other.access_key, other.secret_key, other.session_token) == ("reader", "secret", "token")
    with pytest.raises(UserError, match=r"profile 'none' of .*credentials has no aws_access_key_id"):
        settings_from_environment(at_home | {"AWS_PROFILE": "none"})


def test_a_credentials_file_that_is_wrong_is_named_and_not_quoted(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    named = ENDPOINT | {"AWS_SHARED_CREDENTIALS_FILE": str(file)}
    with pytest.raises(UserError, match="does not exist"):
        settings_from_environment(named)
    file.write_text("aws_secret_access_key = hidden\n")
    with pytest.raises(UserError, match=f"{file} cannot be read") as caught:
        settings_from_environment(named)
    assert "hidden" not in str(caught.value)


def test_half_of_the_keys_is_not_completed_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text(PROFILES)
    environ = ENDPOINT | {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"), "AWS_ACCESS_KEY_ID": "me"}
    with pytest.raises(UserError, match="set AWS_SECRET_ACCESS_KEY"):
        settings_from_environment(environ)


def test_certificates_and_bucket_style(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    settings = settings_from_environment(
        COMPLETE | {"AWS_CA_BUNDLE": str(bundle), "AWS_S3_ADDRESSING_STYLE": "Virtual", "AWS_SESSION_TOKEN": "token"}
    )
    assert (settings.authorities, settings.addressing) == (str(bundle), "virtual")
    assert "token" not in repr(settings)
    with pytest.raises(UserError, match="AWS_S3_ADDRESSING_STYLE='host' is not one of path, virtual, auto"):
        settings_from_environment(COMPLETE | {"AWS_S3_ADDRESSING_STYLE": "host"})
    with pytest.raises(UserError, match=r"AWS_CA_BUNDLE=.* is not a file"):
        settings_from_environment(COMPLETE | {"AWS_CA_BUNDLE": str(tmp_path / "none.pem")})
