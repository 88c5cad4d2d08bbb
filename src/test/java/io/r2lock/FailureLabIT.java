package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Several processes, one server, and a nemesis: conflicting holds never overlap outside the windows that
 * {@link HistoryChecker} states, and who loses a hold is told.
 *
 * <p>With {@code -Dlong}, for {@code -Dlab.minutes} (20).
 */
class FailureLabIT {

    private static final Logger LOG = LoggerFactory.getLogger(FailureLabIT.class);

    private static final int EACH_AT_LEAST = 3;
    private static final int LOSSES_AT_LEAST = 10;
    private static final int MINUTES = Boolean.getBoolean("long") ? Integer.getInteger("lab.minutes", 20) : 0;

    // what is cut off is freed by the server when its patience ends
    @RegisterExtension
    final NoResidue residue = NoResidue.on().patience(Duration.ofSeconds(20));

    @Test
    void noTroubleMakesConflictingHoldsOverlap() {
        Path directory = LabChild.directory("random");
        long seed = Long.getLong("lab.seed", System.nanoTime());
        LOG.info("seed {} (-Dlab.seed), logs in {}", seed, directory);
        Duration limit = Duration.ofMinutes(MINUTES + 8L);
        long start = System.nanoTime();
        try (CuttableNetwork network = CuttableNetwork.create();
                TestServer server = TestServer.ownOn(network);
                TcpProxy proxy = TcpProxy.to(server).start();
                Lab lab = new Lab(directory, seed, limit, network, server, proxy)) {
            residue.watch(server);
            lab.start();
            Random random = new Random(seed);
            Nemesis nemesis = new Nemesis(lab, directory, random);
            lab.awaitProgress("the start");
            do {
                strikeAll(lab, nemesis, random);
            } while (System.nanoTime() - start < Duration.ofMinutes(MINUTES).toNanos());
            int begins = lab.begins();
            List<String> names = lab.processes().stream().map(LabChild::name).toList();
            lab.end();
            HistoryChecker.Verdict verdict = HistoryChecker.check(LabHistory.read(directory));
            LOG.info(
                    "{} s, troubles {}\n{}  not granted, by the last four processes: {}",
                    TestClients.since(start).toSeconds(),
                    nemesis.counts(),
                    verdict.table(),
                    LabHistory.refusals(directory, names));
            assertThat(verdict.violations()).isEmpty();
            assertThat(verdict.losses()).isGreaterThanOrEqualTo(LOSSES_AT_LEAST);
            assertThat(verdict.holds()).isGreaterThanOrEqualTo(begins);
            assertThat(verdict.sharing()).as("session holds").isPositive();
            assertThat(nemesis.counts())
                    .containsOnlyKeys(LabTrouble.Kind.values())
                    .allSatisfy((kind, count) -> assertThat(count).isGreaterThanOrEqualTo(EACH_AT_LEAST));
            residue.check();
        }
    }

    private record Strike(LabTrouble.Kind kind, double severity, boolean twofold) {}

    /** Each trouble a few times, in random order; what lasts, from short to long. */
    private static void strikeAll(Lab lab, Nemesis nemesis, Random random) {
        List<Strike> strikes = new ArrayList<>();
        for (LabTrouble.Kind kind : LabTrouble.Kind.values()) {
            for (int i = 0; i < EACH_AT_LEAST; i++) {
                strikes.add(new Strike(kind, (i + random.nextDouble()) / EACH_AT_LEAST, i % 2 == 1));
            }
        }
        Collections.shuffle(strikes, random);
        Map<LabTrouble.Kind, Duration> recoveries = new TreeMap<>();
        for (Strike strike : strikes) {
            nemesis.strike(strike.kind, strike.severity, strike.twofold);
            long over = System.nanoTime();
            lab.awaitProgress(strike.toString());
            recoveries.merge(strike.kind, TestClients.since(over), (a, b) -> a.compareTo(b) > 0 ? a : b);
        }
        LOG.info("longest time until all processes had new holds: {}", recoveries);
    }
}
