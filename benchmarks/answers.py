"""How a load generator sees that an answer is whole."""

from __future__ import annotations


def is_complete(answer: bytes) -> bool:
    """Whether these bytes are a whole HTTP/1.1 answer."""
    head_end = answer.find(b"\r\n\r\n")
    if head_end < 0:
        return False
    head = answer[:head_end].lower()
    at = head.find(b"\r\ncontent-length:")
    if at >= 0:
        line_end = head.find(b"\r\n", at + 2)
        length = int(head[at + 17 : line_end if line_end >= 0 else head_end])
        return len(answer) >= head_end + 4 + length
    if b"\r\ntransfer-encoding: chunked" in head:
        return answer.endswith(b"\r\n0\r\n\r\n")
    return head[9:12] in (b"204", b"304")
