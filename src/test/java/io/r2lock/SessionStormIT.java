package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import io.r2dbc.spi.ConnectionFactory;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ThreadLocalRandom;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Scheduler;
import reactor.core.scheduler.Schedulers;

/** As {@link CancellationStormIT}, in session scope: nothing outlives a call, and the next caller of its key gets it at once. */
class SessionStormIT {

    private static final Logger LOG = LoggerFactory.getLogger(SessionStormIT.class);
    static final Duration SOON = Duration.ofSeconds(20);
    private static final int ENOUGH = 500;
    private static final int PLACES = 32;
    static final int WAITERS = 12;
    private static final String FRESH = "r2lock storm fresh";

    /** What a cancel may meet. A scenario translates the phases of a guard to these. */
    enum Met {
        AT_GATE,
        CONNECTING,
        TRY_IN_FLIGHT,
        WAITING_ON_SERVER,
        POLLING,
        WORK,
        RELEASING,
        BEFORE_HAND_OVER,
        AFTER_HAND_OVER,
        UNLOCKED_ELSEWHERE
    }

    private final TestServer server = TestServer.newest();

    @RegisterExtension
    final NoResidue residue = NoResidue.on(server);

    private final Sessions sessions = new Sessions(server);
    private final Scheduler canceller = Schedulers.newParallel("canceller", 2);
    private final Storm storm = new Storm(canceller, PLACES);
    private final List<DefaultAdvisoryLocks> clients = new ArrayList<>();

    @AfterEach
    void close() {
        clients.forEach(client -> client.close().block(SOON));
        sessions.close();
        canceller.dispose();
    }

    /** Hands over a few times only, so that the lock is often given back with others queued. */
    private static DefaultAdvisoryLocks build(ConnectionFactory factory, String name) {
        return (DefaultAdvisoryLocks) AdvisoryLocks.builder(factory)
                .handOffLimit(8)
                .waitingConnections(WAITERS)
                .applicationName(name)
                .connectTimeout(SOON)
                .build();
    }

    private DefaultAdvisoryLocks client() {
        DefaultAdvisoryLocks client = build(server.connectionFactory(), "r2lock storm");
        clients.add(client);
        String name = "client " + clients.size() + ": ";
        LockConnections waiting = client.sessions().waiting();
        residue.zero(name + "session locks", client.sessions()::held);
        residue.zero(name + "waiting connections acquired", waiting::acquired);
        residue.zero(name + "waiting connections demand", waiting::demand);
        residue.zero(name + "waiting connections settled", waiting::settled);
        residue.zero(name + "pool demand", client.connections()::demand);
        residue.zero(name + "pool settled", client.connections()::settled);
        residue.zero(name + "gates", client.gates()::size);
        residue.zero(name + "live", client::live);
        residue.zero(name + "waiting", client::waiting);
        return client;
    }

    @Test
    void nothingOutlivesACancelledCall_andTheNextCallerGetsTheKeyAtOnce() {
        DefaultAdvisoryLocks client = client();
        DefaultAdvisoryLocks other = client();

        mixed(client, 10_500);
        atGate(client, 900);
        tryInFlight(900);
        releasing(900);
        working(client, 700);
        handOver(client, 2_000);
        StormWaits waits = new StormWaits(storm, canceller, client, sessions);
        waits.polling(2_000);
        waits.waitingOnServer(50);
        waits.unlockedElsewhere(75);
        connecting(20);
        storm.awaitAll();

        LOG.info("{}", storm.table());
        residue.check();
        for (DefaultAdvisoryLocks next : List.of(client, other)) {
            free(next, 0, StormWork.FEW);
            free(next, StormWork.NESTED, StormWork.FEW);
            free(next, 1_000, StormWork.MANY);
        }
        assertThat(storm.unexpected()).isEmpty();
        assertThat(storm.calls()).isGreaterThanOrEqualTo(20_000);
        for (Met state : Met.values()) {
            assertThat(storm.met(state)).as("cancels that met " + state).isGreaterThanOrEqualTo(ENOUGH);
        }
    }

    /** Whoever comes next gets the keys, and need not wait. */
    static void free(DefaultAdvisoryLocks next, int first, int count) {
        assertThat(Flux.range(first, count)
                        .flatMap(
                                key -> next.exclusive(LockKey.of(key))
                                        .inSession()
                                        .noWait()
                                        .guard(Mono.just(key)),
                                256)
                        .count()
                        .block(SOON))
                .isEqualTo(count);
    }

    /** All kinds of calls, for few keys and for many, most of them cancelled. */
    private void mixed(DefaultAdvisoryLocks client, int calls) {
        storm.scenario(phase -> switch (phase) {
            case "QUEUED" -> Met.AT_GATE.name();
            case "WORK" -> Met.WORK.name();
            default -> "mixed: " + phase;
        });
        for (int i = 0; i < calls; i++) {
            int kind = i % 12;
            StormCall call = storm.call(self -> StormWork.inSession(client, kind, self));
            if (ThreadLocalRandom.current().nextInt(8) != 0) {
                call.cancelSoon();
            }
        }
    }

    private void atGate(DefaultAdvisoryLocks client, int calls) {
        storm.scenario(phase -> phase.equals("QUEUED") ? Met.AT_GATE.name() : "busy gate: " + phase);
        for (int i = 0; i < calls; i++) {
            LockKey key = LockKey.of(i % 2);
            StormCall call =
                    storm.call(self -> client.exclusive(key).inSession().guard(Mono.delay(Duration.ofNanos(300_000))));
            if (i % 8 != 0) {
                call.cancelSoon();
            }
        }
        storm.awaitAll();
        free(client, 0, 2);
    }

    /** A client for which every message is on the wire for a while; {@code calls} are made of keys from {@code first} on. */
    private void far(int first, int calls, FarCall call) {
        try (TcpProxy proxy = TcpProxy.to(server).delay(Duration.ofMillis(1)).start()) {
            DefaultAdvisoryLocks far = build(
                    new PostgresqlConnectionFactory(server.configuration()
                            .host(proxy.host())
                            .port(proxy.port())
                            .build()),
                    "r2lock storm far");
            free(far, first, 1);
            for (int i = 0; i < calls; i++) {
                call.make(far.exclusive(LockKey.of(first + i)).inSession());
            }
            storm.awaitAll();
            Await.until("far client is idle", () -> isIdle(far));
            free(clients.get(1), first, calls);
            far.close().block(SOON);
            // the proxy resets what is open when it closes
            Await.until("all closed", () -> proxy.open() == 0);
        }
    }

    @FunctionalInterface
    private interface FarCall {
        void make(LockRequest request);
    }

    private void tryInFlight(int calls) {
        storm.scenario(phase -> phase.equals("LOCKING") ? Met.TRY_IN_FLIGHT.name() : "free keys: " + phase);
        far(
                10_000,
                calls,
                request -> storm.call(self -> request.guard(Mono.just(1))).cancelSoon());
    }

    /** The cancel's time runs from the end of the work: the unlock is on the wire then. */
    private void releasing(int calls) {
        storm.scenario(phase -> phase.equals("ENDING") ? Met.RELEASING.name() : "releasing: " + phase);
        far(
                20_000,
                calls,
                request -> storm.call(
                        self -> request.guard(Mono.fromSupplier(() -> 1).doOnTerminate(self::cancelSoon))));
    }

    private void working(DefaultAdvisoryLocks client, int calls) {
        storm.scenario(phase -> phase.equals("WORK") ? Met.WORK.name() : "work: " + phase);
        for (int i = 0; i < calls; i++) {
            LockKey key = LockKey.of(30_000 + i);
            storm.call(self -> client.exclusive(key).inSession().guard(hold -> {
                self.cancelSoon();
                return Mono.never();
            }));
        }
        storm.awaitAll();
        Await.until("undone", () -> client.live() == 0);
        free(client, 30_000, calls);
    }

    /** The holder's work ends, and the one behind it is cancelled, at two random instants of the same 600 µs; a third must follow. */
    private void handOver(DefaultAdvisoryLocks client, int rounds) {
        storm.scenario(phase -> switch (phase) {
            case "QUEUED" -> Met.BEFORE_HAND_OVER.name();
            case "GRANTED", "WORK" -> Met.AFTER_HAND_OVER.name();
            default -> "hand-over: " + phase;
        });
        long window = 600;
        for (int i = 0; i < rounds; i++) {
            LockRequest request = client.exclusive(LockKey.of(40_000 + i)).inSession();
            StormCall[] second = new StormCall[1];
            storm.call(self -> request.guard(Mono.defer(() -> {
                        // whoever is behind is queued by the time that this ends
                        second[0] = storm.call(next -> request.guard(Mono.never()));
                        storm.call(last -> request.guard(Mono.just(1)));
                        second[0].cancelWithin(window);
                        return Mono.delay(
                                Duration.ofNanos(ThreadLocalRandom.current().nextLong(1_000 * window)), canceller);
                    }))
                    .subscribeOn(canceller));
            if (i % 8 == 7) {
                // each round takes three places, and waits for two of them
                storm.awaitAll();
            }
        }
        storm.awaitAll();
        Await.until("undone", () -> client.live() == 0);
        free(client, 40_000, rounds);
    }

    /** A new client, whose first connection is being opened for all of its calls. */
    private void connecting(int rounds) {
        storm.scenario(phase -> phase.equals("BORROWING") ? Met.CONNECTING.name() : "new client: " + phase);
        for (int round = 0; round < rounds; round++) {
            DefaultAdvisoryLocks fresh = build(server.connectionFactory(), FRESH);
            for (int i = 0; i < PLACES; i++) {
                LockKey key = LockKey.of(80_000 + i);
                storm.call(self -> fresh.exclusive(key).inSession().guard(Mono.just(1)))
                        .cancelSoon();
            }
            storm.awaitAll();
            Await.until("fresh client is idle", () -> isIdle(fresh));
            if (round % 2 == 0) {
                free(fresh, 80_000, PLACES);
            }
            fresh.close().block(SOON);
        }
        Await.until(
                "the connections of all are closed",
                () -> server.count("select count(*) from pg_stat_activity where application_name like '" + FRESH + "%'")
                        == 0);
    }

    private static boolean isIdle(DefaultAdvisoryLocks client) {
        return client.sessions().held() == 0
                && client.sessions().waiting().demand() == 0
                && client.gates().size() == 0
                && client.live() == 0
                && client.waiting() == 0;
    }
}
