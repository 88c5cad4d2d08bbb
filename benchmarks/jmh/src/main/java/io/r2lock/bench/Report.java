package io.r2lock.bench;

import java.util.List;

/** The absolute values; on a shared machine they say little. */
final class Report {

    private Report() {}

    /** Prints a line for each contender, with its number of callers where that is not the one wanted. */
    static void print(String what, List<? extends Contender> contenders, int callers, Measured measured, String unit) {
        System.out.printf("%n%s, %,d caller%s%n", what, callers, callers == 1 ? "" : "s");
        for (Contender contender : contenders) {
            Spread spread = Spread.of(measured.of(contender.name()));
            int own = contender.callers(callers);
            System.out.printf(
                    "  %-15s %s %s%s%n",
                    contender.name(),
                    spread.format(spread.median() < 100 ? 2 : 0),
                    unit,
                    own == callers ? "" : ", " + own + " callers");
        }
    }
}
