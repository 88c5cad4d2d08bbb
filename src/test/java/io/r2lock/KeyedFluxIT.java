package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.holdElsewhere;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.time.Duration;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicIntegerArray;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** Streams of items on a server: order, exclusion, the window, and what is left when they end before their time. */
@Timeout(180)
class KeyedFluxIT {

    private static final Logger LOG = LoggerFactory.getLogger(KeyedFluxIT.class);
    private static final int ITEMS = Boolean.getBoolean("long") ? 1_000_000 : 50_000;
    private static final int KEYS = 1_000;
    private static final int CONCURRENCY = 256;

    private final TestServer server = TestServer.newest();
    private final Sessions sessions = new Sessions(server);

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    private DefaultAdvisoryLocks locks;

    private final AtomicIntegerArray insideOf = new AtomicIntegerArray(KEYS);
    private final AtomicInteger inside = new AtomicInteger();
    private final AtomicInteger mostInside = new AtomicInteger();
    private final AtomicInteger overlaps = new AtomicInteger();
    private final AtomicLong gone = new AtomicLong();
    private final AtomicLong come = new AtomicLong();
    private final AtomicLong widest = new AtomicLong();

    @BeforeEach
    void setUp() {
        locks = clients.open(server, builder -> builder.maxConnections(4));
    }

    @AfterEach
    void close() {
        sessions.close();
    }

    /** One key has half of all items. */
    private static int keyOf(int item) {
        return item % 2 == 0 ? 0 : (int) (item * 2_654_435_761L % KEYS & Integer.MAX_VALUE) % KEYS;
    }

    private LockRequest request(int key, boolean session) {
        LockRequest request = locks.exclusive(LockKey.of(31_000 + key));
        return session ? request.inSession() : request;
    }

    private Mono<Integer> work(int item) {
        int key = keyOf(item);
        Mono<Integer> begin = Mono.fromSupplier(() -> {
            if (insideOf.incrementAndGet(key) != 1) {
                overlaps.incrementAndGet();
            }
            mostInside.accumulateAndGet(inside.incrementAndGet(), Math::max);
            return item;
        });
        // now and then one that takes a moment, on another thread
        Mono<Integer> run = item % 97 == 0 ? begin.delayElement(Duration.ofMillis(1)) : begin;
        return run.doOnTerminate(() -> {
            insideOf.decrementAndGet(key);
            inside.decrementAndGet();
        });
    }

    /** Items that were taken: each key's in the order of the source. */
    private void run(int items, boolean session) {
        int[] last = new int[KEYS];
        Long taken = locks.flatMapLocked(
                        Flux.range(1, items)
                                .doOnNext(item ->
                                        widest.accumulateAndGet(come.incrementAndGet() - gone.get(), Math::max)),
                        item -> request(keyOf(item), session),
                        this::work,
                        CONCURRENCY)
                .doOnNext(item -> {
                    gone.incrementAndGet();
                    int key = keyOf(item);
                    assertThat(item).isGreaterThan(last[key]);
                    last[key] = item;
                })
                .count()
                .block(Duration.ofSeconds(150));
        assertThat(taken).isEqualTo(items);
        assertThat(overlaps).hasValue(0);
        LOG.info("{} items: {} inside at most, {} ahead at most", items, mostInside, widest);
        assertThat(mostInside.get()).isBetween(2, CONCURRENCY);
        assertThat(widest.get()).isLessThanOrEqualTo((long) CONCURRENCY * KeyedFlux.LOOK_AHEAD);
    }

    @Test
    void session_orderExclusionAndWindow() {
        run(ITEMS, true);
    }

    @Test
    void transaction_orderExclusionAndWindow() {
        run(ITEMS / 50, false);
    }

    @Test
    void transaction_valueComesAfterCommit() {
        server.execute("drop table if exists keyed", "create table keyed (id int)");
        List<Long> seen = locks.flatMapLocked(
                        Flux.range(1, 50),
                        item -> locks.exclusive(LockKey.of(item % 5)),
                        item -> Mono.deferContextual(context -> TestClients.execute(
                                        context.get(locks), "insert into keyed values (" + item + ")")
                                .thenReturn(item)),
                        4)
                .publishOn(reactor.core.scheduler.Schedulers.boundedElastic())
                .map(item -> server.count("select count(*) from keyed where id = " + item))
                .collectList()
                .block(PATIENCE);
        assertThat(seen).hasSize(50).containsOnly(1L);
    }

    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void errorAndCancel_leaveNothing(boolean session) {
        for (int round = 0; round < 100; round++) {
            Set<Integer> begun = ConcurrentHashMap.newKeySet();
            int bad = ThreadLocalRandom.current().nextInt(1, 40);
            Flux<Integer> stream = locks.flatMapLocked(
                    Flux.range(1, 1_000),
                    item -> request(item % 7, session),
                    item -> {
                        begun.add(item);
                        return item == bad ? Mono.error(new IllegalStateException("bad")) : Mono.just(item);
                    },
                    8);
            if (round % 2 == 0) {
                assertThatThrownBy(() -> stream.blockLast(PATIENCE)).hasMessage("bad");
                assertThat(begun).as("of the key of " + bad).doesNotContain(bad + 7);
            } else {
                stream.take(ThreadLocalRandom.current().nextInt(1, bad + 1))
                        .onErrorComplete()
                        .blockLast(PATIENCE);
            }
        }
        Await.until("all ended", () -> locks.live() == 0);
    }

    @Test
    void keyHeldElsewhere_stopsNeitherTheOthersNorTheCancel() {
        holdElsewhere(sessions, 31_003);
        List<Integer> taken = locks.flatMapLocked(Flux.range(1, 40), item -> request(item % 10, true), Mono::just, 16)
                .take(36)
                .collectList()
                .block(PATIENCE);
        assertThat(taken).hasSize(36).noneMatch(item -> item % 10 == 3);
    }
}
