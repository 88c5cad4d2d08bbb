package io.r2lock.bench;

import java.util.ArrayList;
import java.util.List;

/** What the run ends with: each row's ratio, what is required of it, and whether its median reaches that. */
final class Table {

    private static final String FORMAT = "%-70s %-24s %-10s %s%n";

    private final List<String[]> rows = new ArrayList<>();

    void atLeast(String row, List<Double> values, double required) {
        Spread spread = Spread.of(values);
        add(row, spread.format(2), "≥ " + number(required), spread.median() >= required ? "yes" : "no");
    }

    void atMost(String row, List<Double> values, double required) {
        Spread spread = Spread.of(values);
        int decimals = values.stream().allMatch(value -> value == Math.rint(value)) ? 0 : 2;
        add(row, spread.format(decimals), "≤ " + number(required), spread.median() <= required ? "yes" : "no");
    }

    /** A row that is told, and of which nothing is required. */
    void told(String row, List<Double> values) {
        add(row, Spread.of(values).format(2), "-", "-");
    }

    private static String number(double value) {
        return value == Math.rint(value) ? String.format("%,.0f", value) : String.valueOf(value);
    }

    private void add(String row, String value, String required, String met) {
        rows.add(new String[] {row, value, required, met});
    }

    void print() {
        System.out.printf("%n" + FORMAT, "row", "median (min to max)", "required", "met");
        rows.forEach(row -> System.out.printf(FORMAT, (Object[]) row));
    }
}
