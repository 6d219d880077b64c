import os
import sys
from pathlib import Path

from hypothesis import settings

# Tests fork processes that compute with torch, and an OpenMP with threads of its own does not survive a fork.
os.environ["OMP_NUM_THREADS"] = "1"
# huggingface_hub reads these when it is imported, which transformers does: the stand-in for the Hub knows no Xet.
os.environ |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}

sys.path.insert(0, str(Path(__file__).parent))

# No example is too slow on a machine that is busy: nothing here asserts time. CI tries the same examples each time.
settings.register_profile("patient", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("patient")
