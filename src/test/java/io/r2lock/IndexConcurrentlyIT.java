package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static org.assertj.core.api.Assertions.assertThat;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import java.util.concurrent.CompletableFuture;
import java.util.function.UnaryOperator;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Named;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import reactor.core.publisher.Mono;

/** {@code CREATE INDEX CONCURRENTLY} waits for every snapshot, and a statement that waits for a lock has one. */
class IndexConcurrentlyIT {

    private static final long KEY = 44_001;

    private final TestServer server = TestServer.newest();
    private final Sessions sessions = new Sessions(server);

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    private static Stream<Named<UnaryOperator<LockRequest>>> scopes() {
        return Stream.of(
                Named.of("session", LockRequest::inSession), Named.of("transaction", LockRequest::inTransaction));
    }

    @BeforeEach
    void setUp() {
        server.execute("drop table if exists indexed", "create table indexed (id int)");
    }

    @AfterEach
    void closeSessions() {
        sessions.close();
    }

    private CompletableFuture<Void> createIndex() {
        return CompletableFuture.runAsync(() -> server.execute("create index concurrently on indexed (id)"));
    }

    @ParameterizedTest
    @MethodSource("scopes")
    void waitThatPolls_letsItFinish(UnaryOperator<LockRequest> scope) {
        PostgresqlConnection other = TestClients.holdElsewhere(sessions, KEY);
        DefaultAdvisoryLocks locks = clients.open(server);
        CompletableFuture<Integer> waiting = scope.apply(
                        locks.exclusive(LockKey.of(KEY)).polling())
                .guard(Mono.just(1))
                .toFuture();
        Await.until("a try", this::hasTried);
        assertThat(createIndex()).succeedsWithin(PATIENCE);
        assertThat(waiting).isNotDone();
        TestClients.free(other, KEY);
        assertThat(waiting).succeedsWithin(PATIENCE).isEqualTo(1);
    }

    /** A try that the server has answered, and no statement of it that waits. */
    private boolean hasTried() {
        return server.count("select count(*) from pg_stat_activity where application_name = 'r2lock'"
                        + " and (query like '%pg_try_advisory%' or query = 'ROLLBACK') and state = 'idle'")
                == 1;
    }

    @ParameterizedTest
    @MethodSource("scopes")
    void waitInTheServersQueue_keepsItFromFinishing(UnaryOperator<LockRequest> scope) {
        PostgresqlConnection other = TestClients.holdElsewhere(sessions, KEY);
        DefaultAdvisoryLocks locks = clients.open(server);
        CompletableFuture<Integer> waiting = scope.apply(locks.exclusive(LockKey.of(KEY)))
                .guard(Mono.just(1))
                .toFuture();
        sessions.awaitWaiting(1);
        CompletableFuture<Void> index = createIndex();
        Await.until(
                "the index waits for who waits",
                () -> server.count("select count(*) from pg_stat_activity a join pg_locks w on w.locktype = 'advisory'"
                                + " and not w.granted where a.query like 'create index concurrently%'"
                                + " and w.pid = any (pg_blocking_pids(a.pid))")
                        == 1);
        assertThat(index).isNotDone();
        TestClients.free(other, KEY);
        assertThat(waiting).succeedsWithin(PATIENCE).isEqualTo(1);
        assertThat(index).succeedsWithin(PATIENCE);
    }
}
