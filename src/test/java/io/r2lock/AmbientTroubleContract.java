package io.r2lock;

import static io.r2lock.NestingClients.PATIENCE;
import static io.r2lock.NestingClients.isHeld;
import static io.r2lock.NestingClients.one;
import static io.r2lock.NestingClients.run;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.slf4j.event.Level;
import reactor.core.Disposable;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;

/** What goes wrong in a transaction that somebody else owns: it stays the owner's, and usable. */
abstract class AmbientTroubleContract {

    private static final LockKey A = LockKey.of(151);
    private static final LockKey B = LockKey.of(152);

    private final TestServer server;
    private final Sessions sessions;

    @RegisterExtension
    @Order(1)
    final NestingClients clients = new NestingClients();

    @RegisterExtension
    @Order(2)
    final NoResidue residue;

    private DefaultAdvisoryLocks locks;

    AmbientTroubleContract(TestServer server) {
        this.server = server;
        this.sessions = new Sessions(server);
        this.residue = NoResidue.on(server);
    }

    @BeforeEach
    void prepare() {
        server.execute("create table if not exists ambient_trouble (id int)", "truncate ambient_trouble");
        locks = clients.on(server, residue, builder -> builder.ambientTransaction(OwnedTransaction.IN_CONTEXT));
    }

    @AfterEach
    void close() {
        sessions.close();
    }

    private OwnedTransaction begin() {
        return OwnedTransaction.begin(sessions.open());
    }

    private long written() {
        return server.count("select count(*) from ambient_trouble");
    }

    private static <T> String outcome(CompletableFuture<T> call) {
        return call.handle((value, error) ->
                        error == null ? String.valueOf(value) : error.getClass().getSimpleName())
                .orTimeout(20, TimeUnit.SECONDS)
                .join();
    }

    /** Another process holds the key, until it is asked to give it back. */
    private PostgresqlConnection elsewhere(LockKey key) {
        return TestClients.holdElsewhere(sessions, key.value());
    }

    private enum End {
        TIMEOUT,
        BUSY,
        CANCEL,
        POLLING_TIMEOUT,
        POLLING_CANCEL
    }

    @ParameterizedTest
    @EnumSource
    void failingRequest_leavesTheTransactionUsable_andNoneOfItsKeys(End end) {
        PostgresqlConnection other = elsewhere(B);
        OwnedTransaction transaction = begin();
        LockRequest both = locks.exclusive(A, B);
        String how = transaction.run(
                switch (end) {
                    case TIMEOUT -> how(both.waitAtMost(Duration.ofMillis(300)));
                    case BUSY -> how(both.noWait());
                    case CANCEL -> how(both, Duration.ofMillis(300));
                    case POLLING_TIMEOUT -> how(both.polling().waitAtMost(Duration.ofMillis(300)));
                    case POLLING_CANCEL -> how(both.polling(), Duration.ofMillis(300));
                });
        assertThat(how)
                .isEqualTo(
                        switch (end) {
                            case TIMEOUT, POLLING_TIMEOUT -> "LockTimeoutException";
                            case BUSY -> "LockNotAvailableException";
                            case CANCEL, POLLING_CANCEL -> "TimeoutException";
                        });
        transaction.sql("insert into ambient_trouble values (1)");
        assertThat(isHeld(server, A)).isFalse();
        TestClients.free(other, B.value());
        transaction.commit();
        assertThat(written()).isEqualTo(1);
    }

    private static Mono<String> how(LockRequest request) {
        return request.guard(Mono.just("in"))
                .onErrorResume(error -> Mono.just(error.getClass().getSimpleName()));
    }

    private static Mono<String> how(LockRequest request, Duration patience) {
        return request.guard(Mono.just("in"))
                .timeout(Mono.delay(patience))
                .onErrorResume(error -> Mono.just(error.getClass().getSimpleName()));
    }

    @Test
    void ownersStatementsBehindAWaitThatIsCancelled_areHitByNothing() {
        PostgresqlConnection other = elsewhere(A);
        OwnedTransaction transaction = begin();
        transaction.sql("insert into ambient_trouble values (1)");
        Disposable call =
                transaction.around(locks.withAdvisoryLock(A, Mono.just(1))).subscribe();
        sessions.awaitWaiting(1);
        // on the wire behind the wait, as the driver does not hold a plain statement back
        CompletableFuture<Void> sleeps =
                Sessions.send(transaction.wire(), "select pg_sleep(0.5)").toFuture();
        CompletableFuture<Void> writes = Sessions.send(transaction.wire(), "insert into ambient_trouble values (2)")
                .toFuture();
        call.dispose();
        assertThat(outcome(sleeps)).isEqualTo("null");
        assertThat(outcome(writes)).isEqualTo("null");
        TestClients.free(other, A.value());
        transaction.commit();
        assertThat(written()).isEqualTo(2);
    }

    @Test
    void ownersStatementsBehindARequestThatFails_areNotUndone() {
        PostgresqlConnection other = elsewhere(B);
        OwnedTransaction transaction = begin();
        CompletableFuture<String> busy =
                transaction.around(how(locks.exclusive(A, B).noWait())).toFuture();
        CompletableFuture<Void> first = Sessions.send(transaction.wire(), "insert into ambient_trouble values (1)")
                .toFuture();
        CompletableFuture<String> late = transaction
                .around(how(locks.exclusive(A, B).waitAtMost(Duration.ofMillis(200))))
                .toFuture();
        CompletableFuture<Void> second = Sessions.send(transaction.wire(), "insert into ambient_trouble values (2)")
                .toFuture();
        assertThat(outcome(busy)).isEqualTo("LockNotAvailableException");
        assertThat(outcome(late)).isEqualTo("LockTimeoutException");
        assertThat(outcome(first)).isEqualTo("null");
        assertThat(outcome(second)).isEqualTo("null");
        TestClients.free(other, B.value());
        transaction.commit();
        assertThat(written()).isEqualTo(2);
    }

    @Test
    void ownersLimits_areUnchanged_andLimitNoWait() {
        PostgresqlConnection other = elsewhere(A);
        OwnedTransaction transaction = begin();
        transaction.sql("set local lock_timeout='110ms';set local statement_timeout='120ms'");
        String limits = "select current_setting('lock_timeout')||' '||current_setting('statement_timeout')";
        assertThat(transaction.run(how(locks.exclusive(A).waitAtMost(Duration.ofMillis(400)))))
                .isEqualTo("LockTimeoutException");
        assertThat(transaction.ask(limits)).isEqualTo("110ms 120ms");
        assertThat(transaction.run(how(locks.exclusive(A).noWait()))).isEqualTo("LockNotAvailableException");
        assertThat(transaction.ask(limits)).isEqualTo("110ms 120ms");
        CompletableFuture<String> waits =
                transaction.around(how(locks.exclusive(A))).toFuture();
        sessions.awaitWaiting(1);
        Await.rest(Duration.ofMillis(300));
        TestClients.free(other, A.value());
        assertThat(outcome(waits)).isEqualTo("in");
        assertThat(transaction.ask(limits)).isEqualTo("110ms 120ms");
        transaction.commit();
    }

    private enum Stage {
        RUNNING,
        WAITING_ON_SERVER,
        QUEUED
    }

    @ParameterizedTest
    @EnumSource
    void completionOfTheTransaction_endsWhatStandsInIt(Stage stage) {
        PostgresqlConnection other = elsewhere(B);
        OwnedTransaction transaction = begin();
        HeldLock turn = transaction.run(locks.exclusive(LockKey.of(153)).acquire());
        Sinks.Empty<Void> started = Sinks.empty();
        AtomicInteger cancelled = new AtomicInteger();
        Mono<Integer> work = Mono.<Integer>never()
                .doOnSubscribe(subscription -> started.tryEmitEmpty())
                .doOnCancel(cancelled::incrementAndGet);
        LockKey key =
                switch (stage) {
                    case RUNNING -> A;
                    case WAITING_ON_SERVER -> B;
                    case QUEUED -> LockKey.of(153);
                };
        CompletableFuture<Integer> call =
                transaction.around(locks.withAdvisoryLock(key, work)).toFuture();
        switch (stage) {
            case RUNNING -> started.asMono().block(PATIENCE);
            case WAITING_ON_SERVER -> sessions.awaitWaiting(1);
            case QUEUED -> assertThat(call).isNotDone();
        }
        transaction.completes();
        assertThatThrownBy(() -> call.orTimeout(5, TimeUnit.SECONDS).join())
                .hasCauseInstanceOf(LockLostException.class)
                .hasMessageContaining("completed");
        Await.until("cancelled", () -> cancelled.get() == (stage == Stage.RUNNING ? 1 : 0));
        assertThatThrownBy(() -> turn.lost().block(PATIENCE)).isInstanceOf(LockLostException.class);
        assertThatThrownBy(() -> transaction.run(locks.withAdvisoryLock(A, Mono.just(1))))
                .as("a request that comes late")
                .isInstanceOf(LockLostException.class);
        TestClients.free(other, B.value());
        transaction.commit();
    }

    @Test
    void close_endsTheWork_andLeavesTheTransaction() {
        OwnedTransaction transaction = begin();
        Sinks.Empty<Void> started = Sinks.empty();
        CompletableFuture<Object> call = transaction
                .around(locks.withAdvisoryLock(A, Mono.never().doOnSubscribe(running -> started.tryEmitEmpty())))
                .toFuture();
        started.asMono().block(PATIENCE);
        NestingClients.end(locks.close());
        assertThatThrownBy(() -> call.orTimeout(5, TimeUnit.SECONDS).join())
                .hasCauseInstanceOf(LocksClosedException.class);
        assertThat(isHeld(server, A)).isTrue();
        transaction.sql("insert into ambient_trouble values (1)");
        transaction.commit();
        assertThat(written()).isEqualTo(1);
    }

    @Test
    void endOfTheBackend_isALoss() {
        residue.allowLog(Level.WARN, "io.r2lock");
        OwnedTransaction transaction = begin();
        Sinks.Empty<Void> started = Sinks.empty();
        CompletableFuture<Object> call = transaction
                .around(locks.withAdvisoryLock(A, Mono.never().doOnSubscribe(running -> started.tryEmitEmpty())))
                .toFuture();
        started.asMono().block(PATIENCE);
        server.count("select count(pg_terminate_backend(" + transaction.pid() + "))");
        assertThatThrownBy(() -> call.orTimeout(5, TimeUnit.SECONDS).join())
                .hasCauseInstanceOf(LockLostException.class);
        assertThatThrownBy(() -> transaction.run(locks.withAdvisoryLock(A, Mono.just(1))))
                .isInstanceOf(LockLostException.class);
        transaction.completes();
    }

    @Test
    void workThatFreesItsOwnLock_isNoSuccess() {
        residue.allowLog(Level.WARN, "io.r2lock");
        OwnedTransaction transaction = begin();
        transaction.sql("savepoint older");
        assertThatThrownBy(() -> transaction.run(locks.exclusive(A)
                        .guard(hold -> run(hold.connection(), "rollback to savepoint older")
                                .thenReturn(1))))
                .isInstanceOf(LockLostException.class);
        assertThatThrownBy(() -> transaction.run(locks.exclusive(A)
                        .guard(hold -> locks.exclusive(B)
                                .guard(inner -> one(inner.connection(), "select 'commit, says the text'"))
                                .then(run(hold.connection(), "rollback to savepoint older"))
                                .thenReturn(1))))
                .isInstanceOf(LockLostException.class);
        String text = transaction.run(
                locks.exclusive(A).guard(hold -> one(hold.connection(), "select 'commit, says the text'")));
        assertThat(text).startsWith("commit");
        transaction.commit();
    }
}
