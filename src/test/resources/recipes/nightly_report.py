# What a Python job does to share a lock with LockKey.md5: RecipesIT runs this file, and README shows the region.
import sys

# region python
from hashlib import md5

def lock_key(name):
    return int.from_bytes(md5(name.encode()).digest()[:8], "big", signed=True)

def take_lock(cursor, name):  # before anything else in the transaction; COMMIT releases it
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", [lock_key(name)])
# endregion


class Printing:
    """Stands for a driver's cursor: the test executes what this prints."""

    def execute(self, sql, parameters):
        print(sql % tuple(parameters))


for job in sys.argv[1:]:
    take_lock(Printing(), job)
