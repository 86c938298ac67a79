"""Failures of the machine that can be foreseen: how each is recognised, its sentence, and what to do."""

import re
from dataclasses import dataclass

from sagd_cli.errors import SagdError
from sagd_cli.system.files import reason_of


@dataclass(frozen=True)
class Failure:
    """A foreseen failure.

    `sign` is a regular expression that is found in the type and the text of its exception, "module.Type: text". In
    `message`, {reason} stands for the exception's own reason.
    """

    sign: str
    message: str
    hint: str


# The first row whose sign is found counts.
FAILURES = (
    Failure(
        r"MemoryError\b|out of memory|[Cc]annot allocate memory|can't allocate memory|_STATUS_ALLOC_FAILED",
        "there is not enough memory",
        "Make the images, the size or the batch smaller, or start fewer processes on a machine.",
    ),
    Failure(
        r"No space left on device|Disk quota exceeded|File too large|database or disk is full",
        "{reason}",
        "Make room and run the command again.",
    ),
    Failure(
        r"Symlink loop from|Too many levels of symbolic links",
        "a path leads in a circle of links: {reason}",
        "Mend the link.",
    ),
    Failure(
        r"Too many open files",
        "{reason}",
        "Raise the limit with `ulimit -n` and run the command again.",
    ),
    Failure(
        r"can't start new thread|Resource temporarily unavailable",
        "no further thread or process can be started: {reason}",
        "Raise the limit with `ulimit -u`, or use fewer --jobs.",
    ),
    Failure(
        r"Permission denied|Operation not permitted|Read-only file system|readonly database",
        "{reason}",
        "Check the permissions, or choose another place.",
    ),
    Failure(
        r"No usable temporary directory",
        "there is no folder for temporary files",
        "Name one that can be written to with TMPDIR=DIR.",
    ),
    Failure(
        r"^torch\._(inductor|dynamo)\.|^triton\.|(torch\.compile|Dynamo) is not supported",
        "the network cannot be compiled: {reason}",
        "Train with --no-compile, or install what torch.compile needs: a C++ compiler, and Triton for CUDA.",
    ),
    Failure(
        r"does not have a deterministic implementation",
        "CUDA cannot repeat an operation of the network bit for bit: {reason}",
        "Leave out training.deterministic, or choose another network.",
    ),
    Failure(
        r"driver on your system is too old|driver version is insufficient|unsupported display driver"
        r"|forward compatibility was attempted",
        "the driver of the GPU does not fit this build of torch: {reason}",
        "Update the driver, install a build of torch for its version, or use --device cpu.",
    ),
    Failure(
        r"no kernel image is available|device kernel image is invalid|GPUTooOldForTriton",
        "this build of torch has no code for this GPU: {reason}",
        "Install a build of torch for it, or use --device cpu.",
    ),
    Failure(
        r"ncclRemoteError|ncclSystemError|ncclInternalError|ncclInvalidUsage|NCCL (error|timeout)"
        r"|^torch\.distributed\.Dist|[Gg]loo.*(Connect|connect|Timed out|timeout)",
        "the processes that work together lost each other: {reason}",
        "Check that all of them run and reach each other, and run the same command again to go on.",
    ),
    Failure(
        r"Found no NVIDIA driver|no CUDA-capable device|busy or unavailable|CUDA driver initialization failed"
        r"|CUDA unknown error|not compiled with CUDA|No CUDA GPUs are available|system not yet initialized",
        "the GPU cannot be used: {reason}",
        "See whether `nvidia-smi` shows it free, or use --device cpu.",
    ),
    Failure(
        r"CUDNN_STATUS_|cuDNN error|CUBLAS_STATUS_|CUSOLVER_STATUS_|cusolver error|CUFFT_|cuFFT error",
        "a library of the GPU failed: {reason}",
        "Often its memory is full: make the batch smaller; otherwise install torch again, or use --device cpu.",
    ),
    Failure(
        r"CUDA error: (?!device-side assert)",
        "the GPU failed: {reason}",
        "Run the command again; if it fails again, update the driver or use --device cpu.",
    ),
    Failure(
        r"URLError|HTTPError|gaierror|RemoteDisconnected|IncompleteRead|SSLError|CERTIFICATE_VERIFY_FAILED"
        r"|Error downloading|urlopen error|Max retries exceeded|Connection (refused|reset|aborted|timed out)"
        r"|ConnectionError|Network is unreachable|Temporary failure in name resolution"
        r"|File not found or corrupted",
        "the network did not give what was asked for: {reason}",
        "Check the connection; or fetch the files elsewhere, name their folder and leave out --download.",
    ),
    Failure(
        r"database is locked|unable to open database file|disk I/O error",
        "the database of the sweep cannot be used: {reason}",
        "Run the same command again to go on; on a network file system, name a server with --storage.",
    ),
    Failure(
        r"cannot open shared object file|undefined symbol|version `\w+_[\d.]+' not found",
        "a library of this installation cannot be loaded: {reason}",
        "Install the package that it belongs to again.",
    ),
    Failure(
        r"surrogates not allowed|is not valid UTF-8",
        "a name or a text is not valid UTF-8",
        "Rename the file or the folder.",
    ),
)


def text_of(error: BaseException) -> str:
    """Return the message of an error; plug-ins may raise some that fail to make one."""
    try:
        return str(error)
    except Exception:
        return "its message cannot be shown"


def named_error(error: BaseException) -> str:
    """Return the type and the message of an error, in one line."""
    return " ".join(f"{type(error).__name__}: {text_of(error)}".split())


def foreseen(error: BaseException) -> SagdError | None:
    """Return an error of one sentence for an exception of the machine (disk, memory, GPU, network), or None for a bug.

    The exceptions that `error` was raised from count too.
    """
    cause: BaseException | None = error
    while cause is not None:
        kind = type(cause)
        described = f"{kind.__module__}.{kind.__qualname__}: {text_of(cause)}"
        for failure in FAILURES:
            if re.search(failure.sign, described):
                return SagdError(failure.message.format(reason=_reason(cause)), failure.hint)
        cause = cause.__cause__
    # Files that are missing, folders where files should be, and whatever else a system may answer.
    return SagdError(_reason(error)) if isinstance(error, OSError) and error.errno is not None else None


def _reason(error: BaseException) -> str:
    """Return why: the system's words and the file, or the first words of the exception."""
    inner = getattr(error, "reason", None)
    if isinstance(inner, OSError):
        return _reason(inner)
    place = f": {error.filename}" if isinstance(error, OSError) and error.filename else ""
    text = reason_of(error) if isinstance(error, OSError) else text_of(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"{lines[0].rstrip(' .:') if lines else type(error).__name__}{place}"
