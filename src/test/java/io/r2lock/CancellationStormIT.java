package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ThreadLocalRandom;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import reactor.core.Disposable;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Scheduler;
import reactor.core.scheduler.Schedulers;

/** Tens of thousands of calls, cancelled after 0 to 2 ms in whatever state they are: nothing outlives them. */
class CancellationStormIT {

    private static final Logger LOG = LoggerFactory.getLogger(CancellationStormIT.class);
    private static final Duration SOON = Duration.ofSeconds(20);
    private static final int CONNECTIONS = 10;
    private static final int ENOUGH = 500;

    /** What a cancel may meet. A scenario translates the phases of a guard to these. */
    private enum Met {
        AT_GATE,
        FOR_CONNECTION,
        CONNECTING,
        BEGIN_IN_FLIGHT,
        WAITING_ON_SERVER,
        WORK,
        SQL,
        NESTED,
        COMMITTING
    }

    private final TestServer server = TestServer.newest();

    @RegisterExtension
    final NoResidue residue = NoResidue.on(server);

    private final Sessions sessions = new Sessions(server);
    private final Scheduler canceller = Schedulers.newParallel("canceller", 2);
    private final Storm storm = new Storm(canceller, 32);
    private final List<DefaultAdvisoryLocks> clients = new ArrayList<>();

    @BeforeEach
    void createTable() {
        server.execute(
                "create table storm (id int)",
                "create function slow() returns trigger language plpgsql as"
                        + " $$ begin perform pg_sleep(0.002); return null; end $$",
                "create constraint trigger slow after insert on storm deferrable initially deferred"
                        + " for each row execute function slow()");
    }

    @AfterEach
    void close() {
        clients.forEach(client -> client.close().block(SOON));
        sessions.close();
        canceller.dispose();
        server.execute("drop table storm", "drop function slow");
    }

    private DefaultAdvisoryLocks client(int maxConnections) {
        DefaultAdvisoryLocks client = (DefaultAdvisoryLocks) AdvisoryLocks.builder(server.connectionFactory())
                .maxConnections(maxConnections)
                .build();
        clients.add(client);
        String name = "client " + clients.size() + ": ";
        residue.zero(name + "pool acquired", client.connections()::acquired);
        residue.zero(name + "pool pending", client.connections()::pending);
        residue.zero(name + "pool demand", client.connections()::demand);
        residue.zero(name + "server waits", client.connections()::serverWaits);
        residue.zero(name + "settled", client.connections()::settled);
        residue.zero(name + "gates", client.gates()::size);
        residue.zero(name + "live", client::live);
        residue.zero(name + "waiting", client::waiting);
        return client;
    }

    @Test
    void nothingOutlivesACancelledCall() {
        DefaultAdvisoryLocks client = client(CONNECTIONS);
        CleanBorrowers borrowers = new CleanBorrowers(client.connections());
        Disposable during = Flux.interval(Duration.ofMillis(5)).subscribe(tick -> borrowers.borrowOne());

        mixed(client, 15_500);
        beginInFlight(client, 700);
        committing(client, 900);
        sql(client, 700);
        nested(client, 700);
        working(client, 700);
        during.dispose();
        waitingOnServer(client, 70);
        forConnection(1_500);
        connecting(56);
        storm.awaitAll();

        LOG.info("{}\n  clean borrowers {}", storm.table(), borrowers.clean());
        residue.check();
        borrowers.borrowAll(CONNECTIONS);
        assertThat(borrowers.dirty()).isEmpty();
        assertThat(borrowers.clean()).isGreaterThan(ENOUGH);
        assertThat(storm.unexpected()).isEmpty();
        assertThat(storm.calls()).isGreaterThanOrEqualTo(20_000);
        for (Met state : Met.values()) {
            assertThat(storm.met(state)).as("cancels that met " + state).isGreaterThanOrEqualTo(ENOUGH);
        }
    }

    /** All kinds of calls, for few keys and for many, most of them cancelled. */
    private void mixed(DefaultAdvisoryLocks client, int calls) {
        storm.scenario(phase -> switch (phase) {
            case "QUEUED" -> Met.AT_GATE.name();
            case "WORK" -> Met.WORK.name();
            case "SQL" -> Met.SQL.name();
            case "LOCKING" -> "mixed: lock in flight";
            case "BORROWING" -> "mixed: for connection";
            case "OTHER" -> "mixed: acquire() or an operator behind a guard";
            default -> "mixed: " + phase;
        });
        for (int i = 0; i < calls; i++) {
            int kind = i % 12;
            StormCall call = storm.call(self -> StormWork.any(client, kind, self));
            if (ThreadLocalRandom.current().nextInt(8) != 0) {
                call.cancelSoon();
            }
        }
    }

    /** Keys that nobody else holds: what is being locked is on the wire. */
    private void beginInFlight(DefaultAdvisoryLocks client, int calls) {
        storm.scenario(phase -> phase.equals("LOCKING") ? Met.BEGIN_IN_FLIGHT.name() : "free keys " + phase);
        try (TcpProxy proxy = TcpProxy.to(server).delay(Duration.ofMillis(1)).start()) {
            DefaultAdvisoryLocks far = (DefaultAdvisoryLocks)
                    AdvisoryLocks.builder(new io.r2dbc.postgresql.PostgresqlConnectionFactory(server.configuration()
                                    .host(proxy.host())
                                    .port(proxy.port())
                                    .build()))
                            .maxConnections(CONNECTIONS)
                            .build();
            new CleanBorrowers(far.connections()).borrowAll(CONNECTIONS);
            for (int i = 0; i < calls; i++) {
                LockKey key = LockKey.of(10_000 + i);
                storm.call(self -> far.withAdvisoryLock(key, Mono.just(1))).cancelSoon();
                if (i % CONNECTIONS == CONNECTIONS - 1) {
                    // no more calls than connections, so that none waits for one
                    storm.awaitAll();
                    Await.until("idle", () -> far.connections().demand() == 0);
                }
            }
            storm.awaitAll();
            Await.until("far client is idle", () -> isIdle(far));
            CleanBorrowers borrowers = new CleanBorrowers(far.connections());
            borrowers.borrowAll(CONNECTIONS);
            assertThat(borrowers.dirty()).isEmpty();
            far.close().block(SOON);
            // the proxy resets what is open when it closes
            Await.until("all closed", () -> proxy.open() == 0);
        }
        assertThat(client.live()).isZero();
    }

    /** The COMMIT runs a deferred trigger for 2 ms; the cancel's time runs from the end of the work. */
    private void committing(DefaultAdvisoryLocks client, int calls) {
        storm.scenario(phase -> phase.equals("ENDING") ? Met.COMMITTING.name() : "slow commits " + phase);
        for (int i = 0; i < calls; i++) {
            LockKey key = LockKey.of(20_000 + i);
            storm.call(self -> client.exclusive(key)
                    .guard(hold -> Flux.from(hold.connection()
                                    .createStatement("insert into storm values (1)")
                                    .execute())
                            .concatMap(result -> result.getRowsUpdated())
                            .then()
                            .doOnTerminate(self::cancelSoon)));
        }
    }

    /** The cancel's time runs from the beginning of the work, which does not end by itself. */
    private void working(DefaultAdvisoryLocks client, int calls) {
        storm.scenario(phase -> phase.equals("WORK") ? Met.WORK.name() : "work " + phase);
        for (int i = 0; i < calls; i++) {
            LockKey key = LockKey.of(35_000 + i);
            storm.call(self -> client.exclusive(key).guard(hold -> {
                self.cancelSoon();
                return Mono.never();
            }));
        }
    }

    /** A second key is being taken, or waited for, inside the first one's transaction. */
    private void nested(DefaultAdvisoryLocks client, int calls) {
        storm.scenario(phase -> phase.equals("NESTED") ? Met.NESTED.name() : "nested " + phase);
        for (int i = 0; i < calls; i++) {
            LockKey key = LockKey.of(37_000 + i);
            LockKey inner = LockKey.of(39_000 + i % 4);
            storm.call(self -> client.exclusive(key).guard(hold -> {
                self.cancelSoon();
                return self.doing(StormCall.Doing.NESTED, client.withAdvisoryLock(inner, Mono.never()));
            }));
        }
    }

    private void sql(DefaultAdvisoryLocks client, int calls) {
        storm.scenario(phase -> phase.equals("SQL") ? Met.SQL.name() : "statements " + phase);
        for (int i = 0; i < calls; i++) {
            LockKey key = LockKey.of(30_000 + i);
            storm.call(self -> client.exclusive(key).guard(hold -> {
                self.cancelSoon();
                return self.doing(StormCall.Doing.SQL, StormWork.sleep(hold).then(StormWork.sleep(hold)));
            }));
        }
    }

    /** Keys that another session holds; the cancel's time runs from when the server shows all of them waiting. */
    private void waitingOnServer(DefaultAdvisoryLocks client, int rounds) {
        storm.scenario(phase -> phase.equals("LOCKING") ? Met.WAITING_ON_SERVER.name() : "held keys " + phase);
        PostgresqlConnection foreign = sessions.open();
        int waiters = CONNECTIONS - 1;
        Sessions.run(foreign, "select pg_advisory_lock(40000 + n) from generate_series(1, " + waiters + ") n");
        for (int round = 0; round < rounds; round++) {
            List<StormCall> calls = IntStream.rangeClosed(1, waiters)
                    .mapToObj(n -> storm.call(self -> client.withAdvisoryLock(LockKey.of(40_000 + n), Mono.just(1))))
                    .toList();
            Await.until(
                    waiters + " waiting",
                    () -> Sessions.ask(
                                    foreign,
                                    "select count(*) from pg_locks where locktype = 'advisory' and not granted")
                            .equals(List.of(String.valueOf(waiters))));
            calls.forEach(StormCall::cancelSoon);
            storm.awaitAll();
            // or the next round would take this one's waiters for its own
            Await.until("undone", () -> client.live() == 0);
        }
        Sessions.run(foreign, "select pg_advisory_unlock_all()");
    }

    /** All connections are held by others. */
    private void forConnection(int calls) {
        storm.scenario(phase -> phase.equals("BORROWING") ? Met.FOR_CONNECTION.name() : "no connection " + phase);
        DefaultAdvisoryLocks full = client(2);
        List<HeldLock> holds = Flux.range(1, 2)
                .concatMap(n -> full.exclusive(LockKey.of(50_000 + n)).acquire())
                .collectList()
                .blockOptional(SOON)
                .orElseThrow();
        for (int i = 0; i < calls; i++) {
            LockKey key = LockKey.of(51_000 + i);
            storm.call(self -> full.withAdvisoryLock(key, Mono.just(1))).cancelSoon();
        }
        storm.awaitAll();
        holds.forEach(hold -> hold.release().block(SOON));
        CleanBorrowers borrowers = new CleanBorrowers(full.connections());
        borrowers.borrowAll(2);
        assertThat(borrowers.dirty()).isEmpty();
    }

    /** A new client with a connection to open for each of its calls. */
    private void connecting(int rounds) {
        storm.scenario(phase -> phase.equals("BORROWING") ? Met.CONNECTING.name() : "new client " + phase);
        for (int round = 0; round < rounds; round++) {
            DefaultAdvisoryLocks fresh = (DefaultAdvisoryLocks) AdvisoryLocks.create(server.connectionFactory());
            for (int i = 0; i < CONNECTIONS; i++) {
                LockKey key = LockKey.of(60_000 + i);
                storm.call(self -> fresh.withAdvisoryLock(key, Mono.just(1))).cancelSoon();
            }
            storm.awaitAll();
            Await.until("idle", () -> isIdle(fresh));
            if (round % 10 == 0) {
                CleanBorrowers borrowers = new CleanBorrowers(fresh.connections());
                borrowers.borrowAll(CONNECTIONS);
                assertThat(borrowers.dirty()).isEmpty();
            }
            fresh.close().block(SOON);
        }
    }

    private static boolean isIdle(DefaultAdvisoryLocks client) {
        return client.connections().demand() == 0
                && client.connections().settled() == 0
                && client.connections().serverWaits() == 0
                && client.gates().size() == 0
                && client.live() == 0
                && client.waiting() == 0;
    }
}
