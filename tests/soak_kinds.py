"Work that is good, and work that is not, for the test of the soak itself."

import time

from soak import Kind
from globe.locks import alone


class Lines(Kind):
    "Forty lines in a file, each after a moment."

    files, paid = ("all.txt",), True

    def units(self, out):
        path = out / "all.txt"
        return {line for line in path.read_text().split("\n")[:-1]} if path.exists() else set()

    def write(self, out, unit):
        self.log(out, unit)
        time.sleep(0.01)
        with open(out / "all.txt", "a") as file:
            file.write(f"{unit}\n")


class Good(Lines):
    "Goes on where it was, and alone."

    def work(self, out):
        out.mkdir(exist_ok=True)
        with alone(out):
            for unit in range(40):
                if str(unit) not in self.units(out):
                    self.write(out, unit)


class StartsAnew(Lines):
    def work(self, out):
        out.mkdir(exist_ok=True)
        for unit in range(40):
            self.write(out, unit)


class Forgets(Lines):
    def work(self, out):
        out.mkdir(exist_ok=True)
        (out / "all.txt").unlink(missing_ok=True)
        time.sleep(0.3)
        StartsAnew.work(self, out)


class Hangs(Lines):
    def work(self, out):
        if out.exists():
            time.sleep(600)
        StartsAnew.work(self, out)


KINDS = {"good": Good, "starts anew": StartsAnew, "forgets": Forgets, "hangs": Hangs}
