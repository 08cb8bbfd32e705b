"""How wide the vectors are that a processor's compiler makes, which is not always what its device says."""

from __future__ import annotations

import warnings
from functools import cache

import pyopencl as cl

__all__ = ["compiled_vector_bytes"]

_NAME = "vectors_of_"
# The compiler's own macros tell for which processor it compiles. The program's name is the answer: nothing runs.
_SOURCE = f"""
#if defined(__AVX512F__)
__kernel void {_NAME}64(void) {{}}
#elif defined(__AVX__)
__kernel void {_NAME}32(void) {{}}
#elif defined(__SSE__)
__kernel void {_NAME}16(void) {{}}
#else
__kernel void {_NAME}0(void) {{}}
#endif
"""


@cache
def compiled_vector_bytes(device: cl.Device) -> int:
    """Return the bytes of the widest vectors that programs for a processor are compiled to; 0 where that is not told.

    PoCL reports the processor's own vectors, but its LLVM may be older than the processor and compile for an earlier
    one: LLVM 14 takes a Zen 4 for a Zen 3. Wider vectors are cut in two then, which costs registers and now and then
    kills the compiler ("Do not know how to split this operator's operand").
    """
    try:
        with warnings.catch_warnings():
            # PoCL fills the log at every compile; pyopencl makes a warning of it.
            warnings.simplefilter("ignore", cl.CompilerWarning)
            names = cl.Program(cl.Context([device]), _SOURCE).build().kernel_names
    except cl.Error:
        return 0
    return int(names.removeprefix(_NAME))
