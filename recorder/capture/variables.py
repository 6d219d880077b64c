"""The environment variables that shape a run: those of a list, without what looks like a secret."""

from __future__ import annotations

from collections.abc import Mapping

from recorder.capture.urls import without_credentials

_NAMES = {
    *("ATEN_CPU_CAPABILITY", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "LD_PRELOAD", "MALLOC_CONF", "TZ"),
    *("NVIDIA_TF32_OVERRIDE", "NVIDIA_VISIBLE_DEVICES", "TOKENIZERS_PARALLELISM", "VECLIB_MAXIMUM_THREADS"),
    *("PYTHONHASHSEED", "PYTHONMALLOC", "PYTHONOPTIMIZE", "PYTHONPATH", "PYTHONUTF8"),
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK"),
    *("SLURM_JOB_ID", "SLURM_JOB_NUM_NODES", "SLURM_NNODES", "SLURM_NODEID", "SLURM_NTASKS", "SLURM_PROCID"),
    *("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"),
}
_PREFIXES = (
    *("OMP_", "KMP_", "GOMP_", "MKL_", "DNNL_", "ONEDNN_", "OPENBLAS_", "BLIS_", "NUMEXPR_", "LC_"),
    *("CUDA_", "CUBLAS_", "CUBLASLT_", "CUDNN_", "NCCL_", "HIP_", "HSA_", "ROCR_", "MIOPEN_", "RCCL_"),
    *("GLOO_", "TORCH_", "TORCHFT_", "TORCHINDUCTOR_", "PYTORCH_", "TRITON_", "RAY_", "DVC_", "HYDRA_"),
)
# With these in the environment a library computes otherwise than the same library without.
_NUMERICAL = (
    *("ATEN_CPU_CAPABILITY", "CUBLAS_WORKSPACE_CONFIG", "DNNL_DEFAULT_FPMATH_MODE", "DNNL_MAX_CPU_ISA", "MKL_CBWR"),
    *("MKL_DEBUG_CPU_TYPE", "MKL_ENABLE_INSTRUCTIONS", "NVIDIA_TF32_OVERRIDE", "ONEDNN_DEFAULT_FPMATH_MODE"),
    *("ONEDNN_MAX_CPU_ISA", "OPENBLAS_CORETYPE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"),
)
# Judged only in names that a prefix let in; those listed above are known.
_SECRET_NAMES = ("TOKEN", "SECRET", "KEY", "PASSW", "CREDENTIAL", "AUTH", "COOKIE")
# Ray hands whole runtime environments, other variables included, from process to process as JSON.
_LONGEST_VALUE = 1024


def capture_variables(environ: Mapping[str, str]) -> dict[str, str | None]:
    """The listed variables of `environ`, sorted; null instead of a value that may hold a secret.

    That is every value of a variable whose name says so, and every one that is JSON or very long. URLs lose their
    credentials.
    """
    return {
        name: None if _may_be_secret(name, value) else without_credentials(value)
        for name, value in sorted(environ.items())
        if name in _NAMES or name.startswith(_PREFIXES)
    }


def numerical_overrides(captured: Mapping[str, str | None]) -> dict[str, str | None]:
    """Those of the captured variables that change which arithmetic a library chooses."""
    return {name: value for name, value in captured.items() if name in _NUMERICAL}


def _may_be_secret(name: str, value: str) -> bool:
    named = name not in _NAMES and any(part in name for part in _SECRET_NAMES)
    return named or value.startswith(("{", "[")) or len(value) > _LONGEST_VALUE
