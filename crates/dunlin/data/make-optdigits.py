"""Makes optdigits.{train,test}.svm.gz from the copy of UCI optdigits in the scikit-learn package.

    pip download --no-deps scikit-learn==1.9.1
    python make-optdigits.py scikit_learn-1.9.1-*.whl

The 1,797 rows are shuffled with Python's random.Random(1); the first 1,438 train, the last 359 test.
"""

import gzip
import io
import random
import sys
import zipfile

with zipfile.ZipFile(sys.argv[1]) as wheel:
    packed = wheel.read("sklearn/datasets/data/digits.csv.gz")
rows = [[int(float(field)) for field in line.split(",")] for line in gzip.decompress(packed).decode().split()]
assert len(rows) == 1797 and all(len(row) == 65 for row in rows)
random.Random(1).shuffle(rows)
for name, part in (("train", rows[:1438]), ("test", rows[1438:])):
    text = io.StringIO()
    for row in part:
        pairs = (f" {index}:{value}" for index, value in enumerate(row[:64], 1) if value)
        text.write(f"{row[64]}{''.join(pairs)}\n")
    with open(f"optdigits.{name}.svm.gz", "wb") as out:
        out.write(gzip.compress(text.getvalue().encode(), 9, mtime=0))
