"""Names of files that no reader is for: in folders and archives they are not looked into."""

_ENDS = (
    ".py", ".pyc", ".pyi", ".ipynb", ".sh", ".js", ".css", ".html", ".c", ".h", ".cpp", ".cu",
    ".so", ".json", ".jsonl", ".yaml", ".yml", ".toml", ".cfg", ".ini", ".xml", ".txt", ".md",
    ".rst", ".tex", ".log", ".lock", ".csv", ".tsv", ".parquet", ".arrow", ".npy", ".tfrecord",
    ".db", ".sqlite", ".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".svg",
    ".pdf", ".mp4", ".avi", ".mov", ".mkv", ".wav", ".mp3", ".flac", ".ogg", ".ttf", ".docx",
    ".pptx", ".xlsx", ".whl", ".jar", ".exe", ".dll", ".a", ".o",
)  # fmt: skip
_EVENTS = "tfevents"
"""Of TensorBoard: ``events.out.tfevents.<time>.<host>``."""


def is_unrelated(name: str) -> bool:
    """Whether a file is another thing by its name: text, code, data, pictures, hidden."""
    last = name.rpartition("/")[2].lower()
    return last.endswith(_ENDS) or last.startswith(".") or _EVENTS in last
