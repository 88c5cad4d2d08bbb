package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.acquire;
import static io.r2lock.TestClients.execute;
import static io.r2lock.TestClients.free;
import static io.r2lock.TestClients.holdElsewhere;
import static io.r2lock.TestClients.since;
import static io.r2lock.TestClients.warm;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.catchThrowable;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.event.Level;
import reactor.core.Disposable;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;

/** Servers that restart, go away and kill backends. */
class ServerTroubleIT {

    private static final LockKey A = LockKey.of(6_001);

    private final TestServer server = TestServer.newest();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    private static void terminate(TestServer on, long pid) {
        on.execute("select pg_terminate_backend(" + pid + ")");
        Await.until(
                "end of the backend", () -> on.count("select count(*) from pg_stat_activity where pid = " + pid) == 0);
    }

    @Test
    void restartedOrCrashedServer_isFineForTheNextRequest_thoughEveryPooledConnectionIsDead() {
        try (TestServer own = TestServer.own(18, Map.of())) {
            residue.watch(own);
            DefaultAdvisoryLocks locks = clients.open(own);
            for (Runnable trouble : List.<Runnable>of(own::restart, () -> {
                own.crash();
                own.start();
            })) {
                warm(locks, 10);
                trouble.run();
                assertThat(locks.tryWithAdvisoryLock(A, Mono.just(1)).block(PATIENCE))
                        .isEqualTo(1);
                assertThat(locks.exclusive(A)
                                .waitAtMost(PATIENCE)
                                .guard(Mono.just(2))
                                .block(PATIENCE))
                        .isEqualTo(2);
            }
            own.stop();
            assertThatThrownBy(() -> acquire(locks.exclusive(A)))
                    .isInstanceOf(LockServerException.class)
                    .hasMessageContaining(A.toString());
            own.start();
            assertThat(locks.withAdvisoryLock(A, Mono.just(3)).block(PATIENCE)).isEqualTo(3);
            residue.check();
            locks.close().block(PATIENCE);
        }
    }

    /** A first look at the server may take longer than a short timeout; it goes on, and is not repeated. */
    private static void awaitLock(DefaultAdvisoryLocks locks) {
        Await.until(
                "a lock",
                () -> locks.withAdvisoryLock(A, Mono.just(1))
                        .onErrorResume(LockServerException.class, late -> Mono.empty())
                        .blockOptional(PATIENCE)
                        .isPresent());
    }

    @Test
    void serverThatIsDown_isAnErrorWithinTheShorterOfConnectTimeoutAndWait() {
        Duration timeout = Duration.ofMillis(600);
        try (TcpProxy proxy = TcpProxy.to(server).start()) {
            DefaultAdvisoryLocks locks = clients.open(
                    new io.r2dbc.postgresql.PostgresqlConnectionFactory(server.configuration()
                            .host(proxy.host())
                            .port(proxy.port())
                            .build()),
                    builder -> builder.connectTimeout(timeout));
            proxy.stall();
            for (LockRequest request : List.of(
                    locks.exclusive(A),
                    locks.exclusive(A).noWait(),
                    locks.exclusive(A).waitAtMost(PATIENCE))) {
                long start = System.nanoTime();
                assertThatThrownBy(() -> acquire(request))
                        .isInstanceOf(LockServerException.class)
                        .hasMessageContaining("connectTimeout")
                        .hasMessageContaining("600 ms");
                assertThat(since(start)).isBetween(timeout, timeout.plusSeconds(1));
            }
            long start = System.nanoTime();
            assertThatThrownBy(() -> acquire(locks.exclusive(A).waitAtMost(Duration.ofMillis(200))))
                    .isInstanceOfSatisfying(
                            LockTimeoutException.class,
                            late -> assertThat(late.forConnection()).isGreaterThan(Duration.ofMillis(150)));
            assertThat(since(start)).isBetween(Duration.ofMillis(200), timeout);

            proxy.refuse();
            for (LockRequest request :
                    List.of(locks.exclusive(A), locks.exclusive(A).noWait())) {
                assertThatThrownBy(() -> acquire(request))
                        .isInstanceOf(LockServerException.class)
                        .hasMessageContaining(A.toString());
            }
            proxy.resume();
            proxy.accept();
            awaitLock(locks);
        }
    }

    @Test
    void backendThatDiesWhileWaiting_isReplacedOnce() {
        try (Sessions sessions = new Sessions(server)) {
            DefaultAdvisoryLocks locks = clients.open(server);
            PostgresqlConnection other = holdElsewhere(sessions, 6_001);
            CompletableFuture<Integer> waiting =
                    locks.withAdvisoryLock(A, Mono.just(1)).toFuture();
            terminate(server, waitingPid(sessions));
            waitingPid(sessions);
            assertThat(waiting).isNotDone();
            free(other, 6_001);
            assertThat(waiting).succeedsWithin(PATIENCE).isEqualTo(1);

            Sessions.run(other, "select pg_advisory_lock(6001)");
            CompletableFuture<Integer> twice =
                    locks.withAdvisoryLock(A, Mono.just(1)).toFuture();
            terminate(server, waitingPid(sessions));
            terminate(server, waitingPid(sessions));
            assertThat(twice).failsWithin(PATIENCE).withThrowableThat().withCauseInstanceOf(LockServerException.class);
        }
    }

    private long waitingPid(Sessions sessions) {
        sessions.awaitWaiting(1);
        return server.count("select pid from pg_locks where locktype = 'advisory' and not granted");
    }

    @Test
    void backendThatDiesDuringTheHold_neverYieldsAValue() {
        residue.allowLog(Level.WARN, "io.r2lock.AdvisoryLocks");
        server.execute("drop table if exists trouble", "create table trouble (id int)");
        DefaultAdvisoryLocks locks = clients.open(server);
        for (boolean atOnce : new boolean[] {true, false}) {
            Sinks.One<Integer> backend = Sinks.one();
            Sinks.Empty<Void> finish = Sinks.empty();
            CompletableFuture<Integer> call = locks.exclusive(A)
                    .guard((HeldLock hold) -> execute(hold, "insert into trouble values (1)")
                            .doOnSuccess(done -> backend.tryEmitValue(hold.backendPid()))
                            .then(finish.asMono())
                            .thenReturn(1))
                    .toFuture();
            long pid = java.util.Objects.requireNonNull(backend.asMono().block(PATIENCE));
            if (atOnce) {
                server.execute("select pg_terminate_backend(" + pid + ")");
            } else {
                terminate(server, pid);
            }
            finish.tryEmitEmpty().orThrow();
            Throwable error = catchThrowable(() -> Mono.fromFuture(call).block(PATIENCE));
            assertThat(error).isInstanceOfAny(LockLostException.class, CommitOutcomeUnknownException.class);
            assertThat(error).hasMessageContaining(A.toString());
        }
        assertThat(server.count("select count(*) from trouble")).isZero();

        HeldLock given = acquire(locks.exclusive(A));
        terminate(server, given.backendPid());
        assertThat(catchThrowable(() -> given.commit().block(PATIENCE)))
                .isInstanceOfAny(LockLostException.class, CommitOutcomeUnknownException.class);
        given.release().block(PATIENCE);
        assertThat(locks.withAdvisoryLock(A, Mono.just(1)).block(PATIENCE)).isEqualTo(1);
    }

    @Test
    void tlsAndScram_work_alsoForTheCancelRequest() {
        try (TestServer own = TestServer.ownWithTls(18)) {
            residue.watch(own);
            DefaultAdvisoryLocks locks = clients.open(own);
            assertThat(locks.withAdvisoryLock(A, Mono.just(1)).block(PATIENCE)).isEqualTo(1);
            try (Sessions sessions = new Sessions(own)) {
                holdElsewhere(sessions, 6_001);
                assertThat(bestCancel(locks, sessions)).isLessThan(Duration.ofMillis(200));
            }
            residue.check();
            locks.close().block(PATIENCE);
        }
    }

    /** How long a cancelled wait stays in the server's queue; a busy machine only ever adds. */
    private static Duration bestCancel(DefaultAdvisoryLocks locks, Sessions sessions) {
        Duration best = PATIENCE;
        for (int i = 0; i < 5; i++) {
            Disposable waiting = locks.withAdvisoryLock(A, Mono.just(1)).subscribe();
            sessions.awaitWaiting(1);
            long start = System.nanoTime();
            waiting.dispose();
            sessions.awaitWaiting(0);
            Duration took = since(start);
            best = took.compareTo(best) < 0 ? took : best;
        }
        return best;
    }

    @Test
    void oddNames_areHarmless() {
        server.execute("drop table if exists trouble", "create table trouble (id int)");
        DefaultAdvisoryLocks locks = clients.open(server);
        for (String name : List.of(
                "'; drop table trouble; --",
                "/* */ \" ' \\ $$ ",
                "<script>alert(1)</script>",
                "\0\r\n\u202e",
                "é\uD83D\uDE00",
                "x".repeat(1 << 20))) {
            LockKey key = LockKey.named(name.length() < 100 ? name : "big", name);
            assertThat(locks.exclusive(key)
                            .waitAtMost(PATIENCE)
                            .guard(Mono.just(1))
                            .block(PATIENCE))
                    .isEqualTo(1);
            HeldLock hold = acquire(locks.exclusive(key));
            Throwable busy = catchThrowable(() -> acquire(locks.exclusive(key).noWait()));
            assertThat(busy).isInstanceOf(LockNotAvailableException.class).hasMessageContaining(key.toString());
            assertThat(busy.getMessage()).hasSizeLessThan(2_000).doesNotContain("<script>", "\0", "\n");
            hold.release().block(PATIENCE);
        }
        assertThat(server.count("select count(*) from trouble")).isZero();
    }
}
