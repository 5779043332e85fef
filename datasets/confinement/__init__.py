"""Confine a process that decodes files of others: Landlock, seccomp, hard limits and no privileges.

Written on the kernel's interface: the packages for it are unmaintained or have no final release.
"""
