package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentMap;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.UnaryOperator;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/**
 * Five instances, each a client with connections of its own, fire every second by clocks that differ by up to half a second.
 *
 * <p>A second says nothing where this machine was late: then some instance fired so long after its time that a second run is
 * right. It counts if all of it, and all of the one before, was asked and answered in time.
 */
class CronIT {

    private static final Logger LOG = LoggerFactory.getLogger(CronIT.class);
    private static final int SECONDS = Boolean.getBoolean("long") ? 60 : 10;
    private static final LockKey KEY = LockKey.named("cron", "every second");
    private static final int[] OFFSETS = {0, 500, 130, 370, 250};
    private static final Duration LEAST = Duration.ofMillis(700);

    /** The last one fires this long before the hold of the first one is over. */
    private static final Duration IN_TIME = LEAST.minusMillis(500);

    private final TestServer server = TestServer.newest();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    private final ConcurrentMap<Integer, AtomicInteger> runs = new ConcurrentHashMap<>();
    private final ConcurrentMap<Integer, Duration> latest = new ConcurrentHashMap<>();

    /** How many runs each second had that counts. */
    private Map<Integer, Integer> fire(int seconds, UnaryOperator<LockRequest> hold) {
        runs.clear();
        latest.clear();
        List<DefaultAdvisoryLocks> instances = new ArrayList<>();
        for (int i = 0; i < OFFSETS.length; i++) {
            DefaultAdvisoryLocks instance = clients.open(server);
            // it is connected before its first second
            instance.exclusive(LockKey.of(i)).inSession().guard(Mono.just(1)).block(PATIENCE);
            instances.add(instance);
        }
        long start = System.nanoTime() + Duration.ofMillis(300).toNanos();
        Flux.range(0, OFFSETS.length)
                .flatMap(i -> {
                    LockRequest request = hold.apply(
                            instances.get(i).exclusive(KEY).inSession().skipIfBusy());
                    long offset = start + Duration.ofMillis(OFFSETS[i]).toNanos();
                    return Flux.range(0, seconds)
                            .concatMap(second -> fire(
                                    second, offset + Duration.ofSeconds(second).toNanos(), request));
                })
                .blockLast(Duration.ofSeconds(seconds).plus(PATIENCE));
        Map<Integer, Integer> counted = new TreeMap<>();
        for (int second = 1; second < seconds; second++) {
            if (isInTime(second - 1) && isInTime(second)) {
                counted.put(
                        second, runs.getOrDefault(second, new AtomicInteger()).get());
            }
        }
        LOG.info("runs of each second that counts, of {}: {}; latest answers {}", seconds, counted, latest);
        return counted;
    }

    private boolean isInTime(int second) {
        return latest.getOrDefault(second, Duration.ZERO).compareTo(IN_TIME) < 0;
    }

    private Mono<Void> fire(int second, long at, LockRequest request) {
        Mono<Integer> run = Mono.fromSupplier(
                () -> runs.computeIfAbsent(second, none -> new AtomicInteger()).incrementAndGet());
        return Mono.delay(Duration.ofNanos(Math.max(0, at - System.nanoTime())))
                .then(request.guard(run))
                .then(Mono.fromRunnable(() -> latest.merge(
                        second,
                        Duration.ofNanos(System.nanoTime() - at),
                        (one, other) -> one.compareTo(other) > 0 ? one : other)));
    }

    @Test
    void withHoldAtLeast_itRunsOnceASecond() {
        int counted = 0;
        for (int attempt = 0; counted < SECONDS && attempt < 3; attempt++) {
            Map<Integer, Integer> seconds = fire(SECONDS + 1, request -> request.holdAtLeast(LEAST));
            assertThat(seconds.values()).allMatch(count -> count == 1);
            counted += seconds.size();
        }
        assertThat(counted).as("seconds in which this machine was in time").isGreaterThanOrEqualTo(SECONDS);
    }

    @Test
    void withoutIt_aQuickRunIsRepeated() {
        int counted = 0;
        int more = 0;
        for (int attempt = 0; counted < 3 && attempt < 3; attempt++) {
            Map<Integer, Integer> seconds = fire(4, request -> request);
            counted += seconds.size();
            more += seconds.values().stream().mapToInt(count -> count - 1).sum();
        }
        assertThat(counted).as("seconds in which this machine was in time").isGreaterThanOrEqualTo(3);
        assertThat(more).as("runs too many").isPositive();
    }
}
