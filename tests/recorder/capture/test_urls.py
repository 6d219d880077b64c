import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.capture.urls import without_credentials

SECRET = "pass" + "word"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://example.org/a/b.git", "https://example.org/a/b.git"),
        (f"https://me:{SECRET}@example.org/a.git", "https://example.org/a.git"),
        (f"https://{SECRET}@example.org:8443/a.git", "https://example.org:8443/a.git"),
        (f"HTTPS://me:{SECRET}@example.org/a.git", "HTTPS://example.org/a.git"),
        (f"https://me:{SECRET}@x?y#z@example.org/a.git", "https://example.org/a.git"),
        (f"https://example.org/a.whl?token={SECRET}#{SECRET}", "https://example.org/a.whl"),
        (f"git+https://{SECRET}@example.org/a.git@v1.0", "git+https://example.org/a.git@v1.0"),
        ("ssh://git@example.org/a.git", "ssh://git@example.org/a.git"),
        (f"ssh://git:{SECRET}@example.org/a.git", "ssh://git@example.org/a.git"),
        (f"git+ssh://git:{SECRET}@example.org/a.git", "git+ssh://git@example.org/a.git"),
        ("git@example.org:a/b.git", "git@example.org:a/b.git"),
        (f"me:{SECRET}@example.org:a.git", "me@example.org:a.git"),
        ("../c#/sibling.git", "../c#/sibling.git"),
        ("file:///srv/a.git", "file:///srv/a.git"),
    ],
)
def test_credentials_are_removed_and_the_rest_stays(url, expected):
    assert without_credentials(url) == expected


secrets = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1).map(
    lambda t: f"S3{t}S3"
)


@given(st.sampled_from(["https", "http", "ssh", "git+https", "s3", "ftp"]), st.text("abc", max_size=3), secrets)
def test_no_password_survives(scheme, user, secret):
    url = without_credentials(f"{scheme}://{user}:{secret}@example.org/a.git")
    assert "S3" not in url
    assert url.endswith("example.org/a.git")
