"""Print the hash of the code as it is, and the line that says it gives the same results as an earlier one.

    python tests/records/same_results.py [HASH]

HASH is `realised.code` of the records that the earlier code made; without it, that of version 0.1.0 (commit 142a467).
The line goes into `SAME_RESULTS` in src/ablate/records/code_version.py, in place of a line of a hash that was never
released. Only where tests/golden_sweeps pass, whose trainings must agree to the last digit.
"""

from __future__ import annotations

import sys

from ablate.records.code_version import SAME_RESULTS, code_hash

VERSION_0_1_0 = "6c3b6fc06041056fbfd7ead79f5b838136117a1674dbceb03ac2fe189ee42917"

if __name__ == "__main__":
    earlier = sys.argv[1] if len(sys.argv) > 1 else VERSION_0_1_0
    print(f"code as it is: {code_hash()}")
    line = f'    "{code_hash()}": "{earlier}",  # noqa: E501'
    print("it is in SAME_RESULTS" if code_hash() in SAME_RESULTS else line)
