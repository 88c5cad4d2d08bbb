package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Holders whose process is killed or stopped. */
class DeadHolderIT {

    private static final Logger LOG = LoggerFactory.getLogger(DeadHolderIT.class);

    private static final int KILLS = Boolean.getBoolean("long") ? 50 : 10;
    private static final int AT_ONCE = 10;
    private static final Duration FREED_WITHIN = Duration.ofMillis(100);
    private static final Duration PAUSE = Duration.ofSeconds(Boolean.getBoolean("long") ? 30 : 3);
    private static final long HOLD_MILLIS = Duration.ofHours(1).toMillis();
    private static final Duration PATIENCE = Duration.ofSeconds(30);

    private final TestServer server = TestServer.newest();

    @RegisterExtension
    final NoResidue residue = NoResidue.on(server);

    private LabChild start(Path directory, String name) {
        Map<String, ?> options = Map.of(
                "role", "told", "scope", "transaction", "host", server.host(), "port", server.port(), "seconds", 400);
        return LabChild.start(directory, name, List.of(), options);
    }

    private void awaitWaiting(int count) {
        Await.until(
                count + " waiting",
                () -> server.count("select count(*) from pg_locks where locktype = 'advisory' and not granted")
                        == count);
    }

    @Test
    void killedHolder_leavesTheLockToAWaiterOfAnotherProcessAtOnce() {
        List<Long> micros = new ArrayList<>();
        Path directory = LabChild.directory("killed-holder");
        long start = System.nanoTime();
        try (LabChild waiter = start(directory, "waiter")) {
            waiter.awaitReady(start);
            for (int killed = 0; killed < KILLS; killed += AT_ONCE) {
                micros.addAll(killAll(directory, waiter, killed));
            }
            waiter.end();
        }
        micros.sort(null);
        LOG.info(
                "{} killed holders: the waiter began after {} ms (median), {} ms (longest)",
                micros.size(),
                micros.get(micros.size() / 2) / 1_000.0,
                micros.get(micros.size() - 1) / 1_000.0);
        assertThat(micros).hasSize(KILLS);
        // the 99th percentile of 50 is the longest
        assertThat(micros.get(KILLS - 1)).isLessThanOrEqualTo(TimeUnit.MILLISECONDS.toMicros(FREED_WITHIN.toMillis()));
    }

    /** Starts holders of a key each, lets the waiter wait for all of them, and kills one after the other. */
    private List<Long> killAll(Path directory, LabChild waiter, int first) {
        List<LabChild> holders = new ArrayList<>();
        List<Long> micros = new ArrayList<>();
        try {
            long start = System.nanoTime();
            for (int i = 0; i < AT_ONCE; i++) {
                holders.add(start(directory, "holder-" + (first + i)));
            }
            for (int i = 0; i < AT_ONCE; i++) {
                holders.get(i).awaitReady(start).command("hold 0 " + (first + i) + " " + HOLD_MILLIS);
            }
            for (int i = 0; i < AT_ONCE; i++) {
                holders.get(i).awaitHold(first + i, PATIENCE);
                waiter.command("hold " + i + " " + (first + i) + " 1");
            }
            awaitWaiting(AT_ONCE);
            for (int i = 0; i < AT_ONCE; i++) {
                long kill = System.nanoTime();
                holders.get(i).kill();
                LabHold next = waiter.awaitHold(first + i, PATIENCE);
                assertThat(next.begin()).isGreaterThan(kill);
                micros.add(TimeUnit.NANOSECONDS.toMicros(next.begin() - kill));
            }
        } finally {
            holders.forEach(LabChild::close);
        }
        return micros;
    }

    @Test
    void stoppedHolder_keepsTheLock_forTheKernelAnswersForIt() throws InterruptedException {
        Path directory = LabChild.directory("stopped-holder");
        long start = System.nanoTime();
        try (LabChild holder = start(directory, "stopped");
                LabChild waiter = start(directory, "waiter")) {
            holder.awaitReady(start).command("hold 0 1 " + HOLD_MILLIS);
            long backend = holder.awaitHold(1, PATIENCE).backend();
            waiter.awaitReady(start).command("hold 0 1 1");
            awaitWaiting(1);

            Process pause = holder.pause(PAUSE);
            assertThat(pause.waitFor(PAUSE.toSeconds() + 10, TimeUnit.SECONDS)).isTrue();
            assertThat(waiter.holds()).isEmpty();
            assertThat(server.count("select count(*) from pg_locks where granted and locktype = 'advisory' and pid = "
                            + backend))
                    .isOne();

            long running = System.nanoTime();
            LabHold after = Await.value(() -> holder.awaitHold(1, PATIENCE), LabHold::hasEnd, HistoryChecker.SILENCE);
            LOG.info(
                    "holder stopped for {} s: it kept the lock; running again, {}",
                    PAUSE.toSeconds(),
                    after.hasEnd()
                            ? "its work ended after " + (after.end() - running) / 1_000_000 + " ms, " + after.outcome()
                            : "it went on");
            holder.end();
            LabHold next = waiter.awaitHold(1, PATIENCE);
            assertThat(next.begin()).isGreaterThan(holder.awaitHold(1, PATIENCE).end());
            waiter.end();
        }
    }
}
