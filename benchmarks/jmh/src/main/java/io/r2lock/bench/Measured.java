package io.r2lock.bench;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** What each contender reached in one workload, a value for each round. */
final class Measured {

    private final Map<String, List<Double>> values = new LinkedHashMap<>();

    void add(String contender, double value) {
        values.computeIfAbsent(contender, key -> new ArrayList<>()).add(value);
    }

    List<Double> of(String contender) {
        return values.get(contender);
    }

    /** Of each round, because the machine's speed changes between rounds more than within one. */
    List<Double> ratio(String contender, String other) {
        List<Double> ratios = new ArrayList<>();
        for (int i = 0; i < of(contender).size(); i++) {
            ratios.add(of(contender).get(i) / of(other).get(i));
        }
        return ratios;
    }
}
