"""Made-up secrets of every kind, drawn anew at each call: none of them stands in any file of this repository.

A sample is a line as it would stand in a config or a log, and what of it must not be seen.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from dataclasses import dataclass

from recorder.release.secrets.private_rules import Names

HEX, UPPER, LOWER = "0123456789abcdef", string.ascii_uppercase + string.digits, string.ascii_lowercase
WORD = string.ascii_letters + string.digits
BASE64 = WORD + "+/"

NAMES = Names(frozenset({"trainbox-17"}), frozenset({"mmustermann"}), frozenset({"192.0.2.77"}))


@dataclass(frozen=True)
class Sample:
    """One planted secret of `kind` in a line."""

    kind: str
    line: str
    secret: str


class Draw:
    """Draws texts that look drawn."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def __call__(self, letters: str, count: int) -> str:
        """`count` of `letters`, with a letter and a digit among them where there are both."""
        while True:
            text = "".join(self._random.choices(letters, k=count))
            if count < 8 or all(any(map(test, text)) for test in (str.isdigit, str.isalpha) if any(map(test, letters))):
                return text


# Kind, and what its tokens look like: alone in a line, where a config or a program prints them.
_TOKENS: tuple[tuple[str, Callable[[Draw], str]], ...] = (
    ("aws-access-key-id", lambda d: "AKIA" + d(UPPER, 16)),
    ("aws-mws-key", lambda d: "amzn.mws." + "-".join(d(HEX, n) for n in (8, 4, 4, 4, 12))),
    ("google-api-key", lambda d: "AIza" + d(WORD, 35)),
    ("google-oauth-token", lambda d: "ya29." + d(WORD, 60)),
    ("google-oauth-secret", lambda d: "GOCSPX-" + d(WORD, 28)),
    ("google-refresh-token", lambda d: "1//0" + d(WORD, 60)),
    ("azure-client-secret", lambda d: d(WORD, 3) + "8Q~" + d(WORD, 34)),
    ("digitalocean-token", lambda d: "dop_v1_" + d(HEX, 64)),
    ("alibaba-access-key-id", lambda d: "LTAI" + d(WORD, 20)),
    ("cloudflare-origin-key", lambda d: "v1.0-" + d(HEX, 24) + "-" + d(HEX, 146)),
    ("fly-token", lambda d: "fo1_" + d(WORD, 43)),
    ("pulumi-token", lambda d: "pul-" + d(HEX, 40)),
    ("terraform-token", lambda d: d(WORD, 14) + ".atlasv1." + d(WORD, 67)),
    ("vault-token", lambda d: "hvs." + d(WORD, 90)),
    ("doppler-token", lambda d: "dp.pt." + d(WORD, 43)),
    ("tailscale-key", lambda d: "tskey-auth-" + d(WORD, 16) + "-" + d(WORD, 32)),
    ("anthropic-key", lambda d: "sk-ant-" + "api03-" + d(WORD, 93) + "AA"),
    ("openrouter-key", lambda d: "sk-or-" + "v1-" + d(HEX, 64)),
    ("openai-key", lambda d: "sk-" + "proj-" + d(WORD, 120)),
    ("openai-key", lambda d: "sk-" + d(WORD, 48)),
    ("huggingface-token", lambda d: "hf_" + d(WORD, 34)),
    ("wandb-key", lambda d: "wandb_v1_" + d(WORD, 77)),
    ("replicate-token", lambda d: "r8_" + d(WORD, 37)),
    ("groq-key", lambda d: "gsk_" + d(WORD, 52)),
    ("nvidia-key", lambda d: "nvapi-" + d(WORD, 64)),
    ("xai-key", lambda d: "xai-" + d(WORD, 80)),
    ("perplexity-key", lambda d: "pplx-" + d(WORD, 48)),
    ("databricks-token", lambda d: "dapi" + d(HEX, 32)),
    ("github-token", lambda d: "ghp_" + d(WORD, 36)),
    ("github-fine-grained-token", lambda d: "github_pat_" + d(WORD, 22) + "_" + d(WORD, 59)),
    ("gitlab-token", lambda d: "glpat-" + d(WORD, 20)),
    ("npm-token", lambda d: "npm_" + d(WORD, 36)),
    ("pypi-token", lambda d: "pypi-" + d(WORD, 150)),
    ("rubygems-key", lambda d: "rubygems_" + d(HEX, 48)),
    ("docker-token", lambda d: "dckr_pat_" + d(WORD, 27)),
    ("artifactory-key", lambda d: "AKCp" + d(WORD, 69)),
    ("sentry-token", lambda d: "sntrys_" + d(WORD, 120)),
    ("grafana-token", lambda d: "glsa_" + d(WORD, 32) + "_" + d(HEX, 8)),
    ("newrelic-key", lambda d: "NRAK-" + d(UPPER, 27)),
    ("postman-key", lambda d: "PMAK-" + d(HEX, 24) + "-" + d(HEX, 34)),
    ("linear-key", lambda d: "lin_api_" + d(WORD, 40)),
    ("atlassian-token", lambda d: "ATATT3" + d(WORD, 180)),
    ("notion-token", lambda d: "ntn_" + d(WORD, 46)),
    ("figma-token", lambda d: "figd_" + d(WORD, 40)),
    ("supabase-token", lambda d: "sbp_" + d(HEX, 40)),
    ("planetscale-token", lambda d: "pscale_tkn_" + d(WORD, 43)),
    ("slack-token", lambda d: "xoxb-" + d(string.digits, 7) + "-" + d(WORD, 24)),
    ("discord-token", lambda d: "MT" + d(WORD, 24) + "." + d(WORD, 6) + "." + d(WORD, 38)),
    ("telegram-token", lambda d: d(string.digits, 7) + "123:AA" + d(WORD, 33)),
    ("sendgrid-key", lambda d: "SG." + d(WORD, 22) + "." + d(WORD, 43)),
    ("mailgun-key", lambda d: "key-" + d(HEX, 32)),
    ("mailchimp-key", lambda d: d(HEX, 32) + "-us12"),
    ("twilio-key", lambda d: "SK" + d(HEX, 32)),
    ("stripe-key", lambda d: "sk_live_" + d(WORD, 24)),
    ("shopify-token", lambda d: "shpat_" + d(HEX, 32)),
    ("square-token", lambda d: "sq0atp-" + d(WORD, 22)),
    ("age-secret-key", lambda d: "AGE-SECRET-KEY-" + "1" + d(UPPER, 58)),
    ("json-web-token", lambda d: "eyJ" + d(WORD, 17) + ".eyJ" + d(WORD, 40) + "." + d(WORD, 43)),
    ("email-address", lambda d: d(LOWER, 7) + "@mail." + d(LOWER, 6) + ".org"),
    ("private-address", lambda d: "10.0." + d("12", 2) + "." + d("12", 2)),
    ("private-address", lambda d: "fd00:" + d(HEX, 4) + "::1f"),
    ("mac-address", lambda d: "02:42:" + ":".join(d(HEX, 2) for _ in range(4))),
    ("host-name", lambda _: "trainbox-17"),
    ("user-name", lambda _: "mmustermann"),
    ("node-address", lambda _: "192.0.2.77"),
)
# Kind, secret, and the line it is known by.
_IN_CONTEXT: tuple[tuple[str, Callable[[Draw], str], str], ...] = (
    ("aws-secret-access-key", lambda d: d(BASE64, 40), "AWS_SECRET_ACCESS_KEY={}"),
    ("aws-session-token", lambda d: d(BASE64, 200), "aws_session_token = {}"),
    ("aws-signature", lambda d: d(HEX, 64), "GET https://b.s3.amazonaws.com/k?X-Amz-Expires=60&X-Amz-Signature={}"),
    ("google-service-account-key-id", lambda d: d(HEX, 40), "private_key_id: {}"),
    ("azure-storage-key", lambda d: d(BASE64, 86) + "==", "DefaultEndpointsProtocol=https;AccountName=a;AccountKey={}"),
    ("azure-shared-access-key", lambda d: d(BASE64, 43) + "=", "Endpoint=sb://x;SharedAccessKey={}"),
    ("azure-sas-signature", lambda d: d(WORD, 44), "https://a.blob.core.windows.net/c?sv=2024-01-01&sig={}"),
    ("wandb-key", lambda d: d(HEX, 40), "WANDB_API_KEY={}"),
    ("docker-auth", lambda d: d(BASE64, 40), "'auth': '{}'"),
    ("slack-webhook", lambda d: f"T{d(UPPER, 8)}/B{d(UPPER, 8)}/{d(WORD, 24)}", "https://hooks.slack.com/services/{}"),
    ("discord-webhook", lambda d: "12345678901/" + d(WORD, 68), "https://discord.com/api/webhooks/{}"),
    ("putty-private-key", lambda d: "ssh-ed25519-" + d(WORD, 8), "PuTTY-User-Key-File-3: {}"),
    ("kubeconfig-key", lambda d: d(BASE64, 120), "    client-key-data: {}"),
    ("database-url", lambda d: d(WORD, 12), "postgresql://train:{}@db.internal:5432/runs"),
    ("url-password", lambda d: d(WORD, 12), "https://bob:{}@git.corp.io/model.git"),
    ("url-token", lambda d: d(WORD, 32), "https://{}@git.corp.io/model.git"),
    ("netrc-password", lambda d: d(WORD, 12), "machine api.corp.io login bob password {}"),
    ("authorization-header", lambda d: d(WORD, 24), "Authorization: Bearer {}"),
    ("bearer-token", lambda d: d(WORD, 32), "sent bearer {}"),
    ("password", lambda d: d(WORD, 10) + "7x", "smtp_password: {}"),
    ("secret", lambda d: d(WORD, 32), "client_secret: {}"),
    ("home-path", lambda d: d(LOWER, 8) + "q", "reading /home/{}/data/train.txt"),
)
# Kind, and what stands in the first and last line of a key.
KEYS = (
    ("ssh-private-key", "OPENSSH PRIVATE KEY"),
    ("ssh-private-key", "RSA PRIVATE KEY"),
    ("private-key", "PRIVATE KEY"),
    ("pgp-private-key", "PGP PRIVATE KEY BLOCK"),
)


def samples(seed: int) -> list[Sample]:
    """One line with one secret of every kind, and the body of a key in one line as JSON has it."""
    draw = Draw(seed)
    alone = [(kind, make(draw), "value: {}") for kind, make in _TOKENS]
    within = [(kind, make(draw), line) for kind, make, line in _IN_CONTEXT]
    keys = []
    for kind, what in KEYS:
        body = "\\n" + "\\n".join(draw(BASE64, 64) for _ in range(4)) + "\\n"
        keys.append((kind, body, f"-----BEGIN {what}-----{{}}-----END {what}-----"))
    return [Sample(kind, line.format(secret), secret) for kind, secret, line in (*alone, *within, *keys)]


def key_lines(seed: int, what: str) -> tuple[list[str], list[str]]:
    """A private key over many lines, and the lines of its body."""
    draw = Draw(seed)
    body = [draw(BASE64, 64) for _ in range(5)] + [draw(BASE64, 22) + "=="]
    blank = [""] if what.startswith("PGP") else []
    return [f"-----BEGIN {what}-----", *blank, *body, f"-----END {what}-----"], body
