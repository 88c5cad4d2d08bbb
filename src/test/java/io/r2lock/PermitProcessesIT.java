package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.NavigableMap;
import java.util.Random;
import java.util.TreeMap;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Four processes that want permits of one key all the time, and are killed now and then: never more holders than permits, and
 * whoever lives can have them all.
 *
 * <p>With {@code -Dlong}, for {@code -Dpermit.minutes} (10), and then no caller may have waited for longer than {@link #LONGEST_WAIT}.
 */
class PermitProcessesIT {

    private static final Logger LOG = LoggerFactory.getLogger(PermitProcessesIT.class);

    private static final int PROCESSES = 4;
    private static final int PERMITS = 3;
    private static final boolean LONG = Boolean.getBoolean("long");
    private static final Duration CONTENTION =
            LONG ? Duration.ofMinutes(Integer.getInteger("permit.minutes", 10)) : Duration.ofSeconds(1);
    private static final int KILLS = 2;
    private static final int ENOUGH = 10;
    private static final Duration PATIENCE = Duration.ofSeconds(30);

    /**
     * Between processes there is no order, so no bound is certain. A slot goes round in its process for 64 holds of 5 ms and then
     * rests for an eighth of that; who looks every 125 to 375 ms finds it so with a chance of a ninth or more. 240 looks, a minute, in
     * vain: once in 10^12.
     */
    private static final Duration LONGEST_WAIT = Duration.ofMinutes(1);

    private final TestServer server = TestServer.newest();
    private final Path directory = LabChild.directory("permits");
    private final List<LabChild> processes = new ArrayList<>();
    private final Map<String, Long> kills = new HashMap<>();
    private int started;

    @RegisterExtension
    final NoResidue residue = NoResidue.on(server);

    private LabChild start() {
        long seconds = CONTENTION.toSeconds() + 400;
        Map<String, ?> options = Map.of(
                "role",
                "permits",
                "permits",
                PERMITS,
                "host",
                server.host(),
                "port",
                server.port(),
                "seconds",
                seconds);
        LabChild child = LabChild.start(directory, "permits-" + ++started, List.of(), options);
        processes.add(child);
        return child;
    }

    private List<LabChild> living() {
        return processes.stream()
                .filter(process -> !kills.containsKey(process.name()))
                .toList();
    }

    private void awaitProgress() {
        List<LabChild> living = living();
        List<Integer> wanted =
                living.stream().map(process -> process.begins() + ENOUGH).toList();
        List<Integer> seen = Await.value(
                () -> living.stream().map(LabChild::begins).toList(),
                begins -> {
                    boolean enough = true;
                    for (int i = 0; i < begins.size(); i++) {
                        enough &= begins.get(i) >= wanted.get(i);
                    }
                    return enough;
                },
                PATIENCE);
        for (int i = 0; i < seen.size(); i++) {
            assertThat(seen.get(i)).as(living.get(i).name()).isGreaterThanOrEqualTo(wanted.get(i));
        }
    }

    private void kill(LabChild victim) {
        kills.put(victim.name(), System.nanoTime());
        victim.kill();
    }

    @Test
    void neverMoreHoldersThanPermits_andTheLivingHaveThemAll() {
        Random random = new Random();
        long start = System.nanoTime();
        try {
            for (int i = 0; i < PROCESSES; i++) {
                start();
            }
            processes.forEach(process -> process.awaitReady(start));
            awaitProgress();
            long until = System.nanoTime() + CONTENTION.toNanos();
            int killed = 0;
            while (killed < KILLS || System.nanoTime() < until) {
                Await.rest(LONG ? Duration.ofSeconds(random.nextInt(30)) : Duration.ofMillis(random.nextInt(300)));
                kill(living().get(random.nextInt(PROCESSES)));
                killed++;
                awaitProgress();
                long before = System.nanoTime();
                if (LONG || killed < KILLS) {
                    start().awaitReady(before);
                    awaitProgress();
                }
            }
            living().forEach(LabChild::end);
        } finally {
            processes.forEach(LabChild::close);
        }
        check();
    }

    /** How many held from each moment on; a killed holder until just before its end. */
    private NavigableMap<Long, Integer> inside(List<LabHold> holds) {
        NavigableMap<Long, Integer> inside = new TreeMap<>();
        for (LabHold hold : holds) {
            long end = hold.hasEnd() ? hold.end() : kills.getOrDefault(hold.process(), Long.MAX_VALUE);
            if (hold.begin() < end) {
                inside.merge(hold.begin(), 1, Integer::sum);
                inside.merge(end, -1, Integer::sum);
            }
        }
        int now = 0;
        for (Map.Entry<Long, Integer> change : inside.entrySet()) {
            now += change.getValue();
            change.setValue(now);
        }
        return inside;
    }

    private void check() {
        List<LabHold> holds = LabHistory.read(directory).holds();
        NavigableMap<Long, Integer> inside = inside(holds);
        int most = Collections.max(inside.values());
        List<Long> waits = new ArrayList<>(processes.stream()
                .flatMap(process -> LabHistory.waits(directory, process.name()).stream())
                .toList());
        waits.sort(null);
        Duration longest = Duration.ofNanos(waits.get(waits.size() - 1));
        LOG.info(
                "{} holds of {} permits by {} processes, {} killed: at most {} at once; waits: median {} ms, longest {} ms",
                holds.size(),
                PERMITS,
                processes.size(),
                kills.size(),
                most,
                waits.get(waits.size() / 2) / 1_000_000.0,
                longest.toMillis());
        assertThat(most).isEqualTo(PERMITS);
        assertThat(kills.values())
                .allSatisfy(kill -> assertThat(inside.tailMap(kill, false).values())
                        .as("after a kill all permits are held at once again")
                        .contains(PERMITS));
        assertThat(holds)
                .allSatisfy(hold -> assertThat(hold.outcome())
                        .isIn(LabHold.Outcome.RELEASED, LabHold.Outcome.CANCELLED, LabHold.Outcome.NONE));
        if (LONG) {
            assertThat(longest).isLessThan(LONGEST_WAIT);
        }
    }
}
