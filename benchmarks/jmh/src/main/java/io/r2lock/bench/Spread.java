package io.r2lock.bench;

import java.util.List;

/** Median, least and most of what the rounds gave. */
record Spread(double median, double least, double most) {

    static Spread of(List<Double> values) {
        double[] sorted =
                values.stream().mapToDouble(Double::doubleValue).sorted().toArray();
        return new Spread(median(values), sorted[0], sorted[sorted.length - 1]);
    }

    static double median(List<? extends Number> values) {
        double[] sorted =
                values.stream().mapToDouble(Number::doubleValue).sorted().toArray();
        int half = sorted.length / 2;
        return sorted.length % 2 == 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
    }

    String format(int decimals) {
        String number = "%,." + decimals + "f";
        return String.format(number + " (" + number + " to " + number + ")", median, least, most);
    }
}
