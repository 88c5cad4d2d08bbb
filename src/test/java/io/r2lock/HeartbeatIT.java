package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.acquire;
import static io.r2lock.TestClients.execute;
import static io.r2lock.TestClients.release;
import static org.assertj.core.api.Assertions.assertThat;

import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import io.r2dbc.postgresql.api.PostgresqlConnection;
import java.time.Duration;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.event.Level;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** What the heartbeat notices, what it costs, and above all what does not make it call anything lost. */
class HeartbeatIT {

    private static final LockKey A = LockKey.of(13_001);
    private static final LockKey B = LockKey.of(13_002);

    private final TestServer server = TestServer.newest();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    private DefaultAdvisoryLocks quick(PostgresqlConnectionFactory factory) {
        return clients.open(
                factory,
                builder -> builder.connectTimeout(Duration.ofSeconds(3))
                        .heartbeat(Duration.ofMillis(200))
                        .heartbeatDeadline(Duration.ofSeconds(1)));
    }

    private List<String> heartbeats(String columns) {
        return server
                .query("select " + columns
                        + " as seen from pg_stat_activity where application_name = 'r2lock heartbeat'")
                .stream()
                .map(row -> String.valueOf(row.get("seen")))
                .toList();
    }

    @Test
    void heartbeatConnectionThatDies_isReplaced_andNothingIsLost() {
        DefaultAdvisoryLocks locks = quick(server.connectionFactory());
        HeldLock hold = acquire(locks.exclusive(A));
        Set<String> seen = new HashSet<>();
        for (int i = 0; i < 5; i++) {
            Await.until("another heartbeat", () -> heartbeats("pid").stream().anyMatch(pid -> !seen.contains(pid)));
            seen.addAll(heartbeats("pid"));
            server.execute("select pg_terminate_backend(pid) from pg_stat_activity"
                    + " where application_name = 'r2lock heartbeat'");
        }
        assertThat(seen).hasSizeGreaterThanOrEqualTo(5);
        hold.commit().block(PATIENCE);
    }

    @Test
    void roleThatCannotSeeItsBackends_losesNothingFalsely_andWhatIsLostAllTheSame() {
        residue.allowLog(Level.WARN, "io.r2lock.AdvisoryLocks");
        server.execute(
                "drop role if exists blind",
                "drop role if exists other",
                "create role other",
                "create role blind login",
                "grant other to blind",
                "alter role blind set role = 'other'");
        try (Sessions sessions = new Sessions(server)) {
            PostgresqlConnection blind = sessions.open(configuration -> configuration.username("blind"));
            assertThat(Sessions.ask(blind, "select backend_start from pg_stat_get_activity(pg_backend_pid())"))
                    .as("what this is about")
                    .containsExactly("null");
        }
        DefaultAdvisoryLocks locks = quick(new PostgresqlConnectionFactory(
                server.configuration().username("blind").build()));
        HeldLock hold = acquire(locks.exclusive(A));
        assertThat(Mono.firstWithSignal(
                                hold.lost().thenReturn("lost"),
                                Mono.delay(Duration.ofSeconds(3)).map(String::valueOf))
                        .block(PATIENCE))
                .isEqualTo("0");
        CompletableFuture<Void> lost = hold.lost().toFuture();
        server.execute("select pg_terminate_backend(" + hold.backendPid() + ")");
        assertThat(lost).failsWithin(PATIENCE);
        release(hold);
    }

    @Test
    void lockFreedBySqlOfTheWork_isNoticedWhileTheWorkGoesOn() {
        residue.allowLog(Level.WARN, "io.r2lock.AdvisoryLocks");
        DefaultAdvisoryLocks locks = quick(server.connectionFactory());
        for (String freeing : List.of("commit", "commit and chain", "rollback; begin")) {
            CompletableFuture<Object> call = locks.exclusive(A)
                    .guard((HeldLock hold) -> Mono.delay(Duration.ofMillis(600))
                            .then(execute(hold, freeing))
                            .then(Mono.never()))
                    .toFuture();
            assertThat(call)
                    .as(freeing)
                    .failsWithin(PATIENCE)
                    .withThrowableThat()
                    .withCauseInstanceOf(LockLostException.class)
                    .withMessageContaining("transaction has ended");
        }
        assertThat(locks.withAdvisoryLock(A, Mono.just(1)).block(PATIENCE)).isEqualTo(1);
    }

    @Test
    void silentServer_isALossWithinTheTwoTimes_whereverInThePeriodItComes() {
        residue.allowLog(Level.WARN, "io.r2lock.AdvisoryLocks");
        try (TcpProxy proxy = TcpProxy.to(server).start()) {
            DefaultAdvisoryLocks locks = quick(throughProxy(proxy));
            for (int pause = 0; pause <= 200; pause += 50) {
                HeldLock hold = acquire(locks.exclusive(A));
                CompletableFuture<Void> lost = hold.lost().toFuture();
                Mono.delay(Duration.ofMillis(300 + pause)).block();
                long start = System.nanoTime();
                proxy.stall();
                assertThat(lost)
                        .failsWithin(PATIENCE)
                        .withThrowableThat()
                        .withCauseInstanceOf(LockLostException.class)
                        .withMessageContaining("has not answered");
                // 200 ms + 1 s, and what a busy machine adds
                assertThat(TestClients.since(start)).isBetween(Duration.ofMillis(800), Duration.ofMillis(1_500));
                proxy.resume();
                release(hold);
                Await.until(
                        "free",
                        () -> locks.tryWithAdvisoryLock(A, Mono.just(1))
                                .onErrorResume(LockNotAvailableException.class, busy -> Mono.empty())
                                .blockOptional(PATIENCE)
                                .isPresent());
            }
        }
    }

    @Test
    void waitOnASilentServer_isGivenUp_andMadeAnewOnce() {
        try (TcpProxy proxy = TcpProxy.to(server).start();
                Sessions sessions = new Sessions(server)) {
            TestClients.holdElsewhere(sessions, 13_002);
            DefaultAdvisoryLocks locks = quick(throughProxy(proxy));
            CompletableFuture<Integer> waiting =
                    locks.withAdvisoryLock(B, Mono.just(1)).toFuture();
            sessions.awaitWaiting(1);
            proxy.stall();
            assertThat(waiting)
                    .failsWithin(PATIENCE)
                    .withThrowableThat()
                    .withCauseInstanceOf(LockServerException.class);
            proxy.resume();
            sessions.awaitWaiting(0);
        }
    }

    private PostgresqlConnectionFactory throughProxy(TcpProxy proxy) {
        return new PostgresqlConnectionFactory(
                server.configuration().host(proxy.host()).port(proxy.port()).build());
    }

    @Test
    void twoHundredHolds_areOneStatementAPeriod() {
        try (TestServer own = TestServer.own(18, Map.of("max_connections", "300"))) {
            residue.watch(own);
            DefaultAdvisoryLocks locks =
                    clients.open(own, builder -> builder.maxConnections(200).applicationName("many"));
            List<HeldLock> holds = Flux.range(0, 200)
                    .flatMap(i -> locks.exclusive(LockKey.of(13_500 + i)).acquire(), 200)
                    .collectList()
                    .block(PATIENCE);
            Set<String> statements = new HashSet<>();
            Await.value(
                    () -> {
                        own.query(
                                        "select query_start || ' ' || (query like '%xact_start%') as seen from pg_stat_activity"
                                                + " where application_name = 'many heartbeat'")
                                .forEach(row -> statements.add(String.valueOf(row.get("seen"))));
                        return false;
                    },
                    done -> done,
                    Duration.ofSeconds(7));
            assertThat(statements.stream().filter(seen -> seen.endsWith("true")))
                    .as("in 7 s, with a period of 2 s")
                    .hasSizeBetween(3, 5);
            Flux.fromIterable(java.util.Objects.requireNonNull(holds))
                    .flatMap(HeldLock::release, 200)
                    .blockLast(PATIENCE);
            residue.check();
            locks.close().block(PATIENCE);
        }
    }

    @Test
    void idleClient_asksNothing() {
        DefaultAdvisoryLocks locks = quick(server.connectionFactory());
        release(acquire(locks.exclusive(A)));
        HeldLock hold = acquire(locks.exclusive(A));
        Await.until("a heartbeat", () -> heartbeats("query").stream().anyMatch(query -> query.contains("xact_start")));
        release(hold);
        Mono.delay(Duration.ofMillis(300)).block();
        List<String> before = heartbeats("query_start");
        Mono.delay(Duration.ofSeconds(1)).block();
        assertThat(heartbeats("query_start")).isEqualTo(before);
    }
}
