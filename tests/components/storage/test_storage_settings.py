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
