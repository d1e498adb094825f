"""What is done to images before a detector learns from them; auditing them is the first of it."""

from .audit import ImageAudit, audit_images

__all__ = ["ImageAudit", "audit_images"]
