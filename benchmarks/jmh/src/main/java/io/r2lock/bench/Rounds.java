package io.r2lock.bench;

import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.function.ToDoubleBiFunction;

/** Measures contenders in turns: all of them in each round, in another order each time. */
final class Rounds {

    private final Settings settings;
    private final Set<String> warm = new HashSet<>();

    Rounds(Settings settings) {
        this.settings = settings;
    }

    /**
     * Warms and measures.
     *
     * @param share of the settings' seconds
     * @param measure given a contender and how many seconds to measure it
     */
    Measured run(List<? extends Contender> contenders, double share, ToDoubleBiFunction<Contender, Double> measure) {
        Measured measured = new Measured();
        for (Contender contender : contenders) {
            measure.applyAsDouble(contender, warmSeconds(contender));
        }
        for (int round = 0; round < settings.rounds(); round++) {
            List<Contender> order = new ArrayList<>(contenders);
            Collections.rotate(order, round);
            if (round % 2 == 1) {
                Collections.reverse(order);
            }
            for (Contender contender : order) {
                measured.add(contender.name(), measure.applyAsDouble(contender, settings.seconds() * share));
            }
        }
        return measured;
    }

    /** In full where its code has not run yet; a third where only the workload, and its connections, are new. */
    private double warmSeconds(Contender contender) {
        return warm.add(contender.name()) ? settings.warm() : settings.warm() / 3;
    }
}
