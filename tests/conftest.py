"""What holds for all tests: the compiler is trusted, and interrupts reach the programs that tests start.

So that which program serves depends on no process beside them, and tests may run behind a shell.
"""

import os
import signal

from convolume.devices.opencl._guard import VARIABLE

os.environ[VARIABLE] = "1"
# Shells start what runs behind them with SIGINT ignored, and every program that it starts would ignore it too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
