package io.r2lock;

import static io.r2lock.NestingClients.PATIENCE;
import static io.r2lock.NestingClients.get;
import static io.r2lock.NestingClients.isHeld;
import static io.r2lock.NestingClients.one;
import static io.r2lock.NestingClients.run;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;

/** Requests in a transaction that somebody else owns: what they join, and whom they exclude. */
abstract class AmbientContract {

    private static final LockKey A = LockKey.of(141);
    private static final LockKey B = LockKey.of(142);

    private final TestServer server;
    private final Sessions sessions;

    @RegisterExtension
    @Order(1)
    final NestingClients clients = new NestingClients();

    @RegisterExtension
    @Order(2)
    final NoResidue residue;

    private DefaultAdvisoryLocks locks;

    private final AtomicInteger inside = new AtomicInteger();
    private final AtomicInteger most = new AtomicInteger();

    AmbientContract(TestServer server) {
        this.server = server;
        this.sessions = new Sessions(server);
        this.residue = NoResidue.on(server);
    }

    @BeforeEach
    void prepare() {
        server.execute("create table if not exists ambient (id int)", "truncate ambient");
        locks = client();
        residue.zero("ambient transactions", locks::ambient);
    }

    @AfterEach
    void close() {
        sessions.close();
    }

    private DefaultAdvisoryLocks client() {
        return clients.on(server, residue, builder -> builder.ambientTransaction(OwnedTransaction.IN_CONTEXT));
    }

    private OwnedTransaction begin() {
        return OwnedTransaction.begin(sessions.open());
    }

    private long written() {
        return server.count("select count(*) from ambient");
    }

    /** Work that notes how much of its kind runs at once. */
    private Mono<Integer> counted() {
        return Mono.defer(() -> {
            most.accumulateAndGet(inside.incrementAndGet(), Math::max);
            return Mono.delay(Duration.ofMillis(1)).map(tick -> inside.decrementAndGet());
        });
    }

    private static String outcome(CompletableFuture<?> call) {
        return call.handle((value, error) ->
                        error == null ? String.valueOf(value) : error.getClass().getSimpleName())
                .orTimeout(20, TimeUnit.SECONDS)
                .join();
    }

    @Test
    void request_isTakenOnTheTransactionsConnection_andLivesAsLongAsIt() {
        OwnedTransaction transaction = begin();
        List<String> seen = transaction.run(locks.exclusive(A)
                .guard(hold -> run(hold.connection(), "insert into ambient values (1)")
                        .then(one(hold.connection(), "select pg_backend_pid()"))
                        .map(pid -> List.of(pid, "" + hold.backendPid()))));
        assertThat(seen).containsOnly("" + transaction.pid());
        assertThat(locks.connections().allocated()).isZero();
        assertThat(isHeld(server, A)).as("after the work").isTrue();
        assertThat(written()).as("before the owner's COMMIT").isZero();
        assertThatThrownBy(() -> get(client().exclusive(A).noWait().guard(Mono.just(1))))
                .isInstanceOf(LockNotAvailableException.class);

        transaction.commit();
        assertThat(isHeld(server, A)).isFalse();
        assertThat(written()).isEqualTo(1);
    }

    @Test
    void rollbackOfTheOwner_undoesTheWork_thoughItSucceeded() {
        OwnedTransaction transaction = begin();
        transaction.run(locks.exclusive(A)
                .guard(hold ->
                        run(hold.connection(), "insert into ambient values (1)").thenReturn(1)));
        transaction.rollback();
        assertThat(written()).isZero();
        assertThat(isHeld(server, A)).isFalse();
    }

    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void endOfTheWorkByErrorOrCancel_leavesTheTransactionAndTheLock(boolean cancels) {
        OwnedTransaction transaction = begin();
        Mono<Integer> fails = locks.exclusive(A)
                .guard(hold -> run(hold.connection(), "insert into ambient values (1)")
                        .then(cancels ? Mono.never() : Mono.error(new IllegalArgumentException("work"))));
        String how = transaction.run(fails.map(String::valueOf)
                .timeout(Mono.delay(Duration.ofMillis(300)))
                .onErrorResume(error -> Mono.just(error.getClass().getSimpleName())));
        assertThat(how).isEqualTo(cancels ? "TimeoutException" : "IllegalArgumentException");
        assertThat(isHeld(server, A)).isTrue();
        transaction.sql("insert into ambient values (2)");
        transaction.commit();
        assertThat(written()).isEqualTo(2);
    }

    @Test
    void nestedRequests_areReentrant_andOtherKeysAreTakenInTheSameTransaction() {
        OwnedTransaction transaction = begin();
        List<Integer> pids = transaction.run(locks.exclusive(A)
                .guard(outer -> locks.exclusive(A)
                        .guard(again -> locks.exclusive(B)
                                .guard(other -> locks.shared(A)
                                        .guard(reader -> one(reader.connection(), "select pg_backend_pid()")
                                                .map(pid -> List.of(
                                                        Integer.parseInt(pid),
                                                        outer.backendPid(),
                                                        again.backendPid(),
                                                        other.backendPid(),
                                                        reader.backendPid())))))));
        assertThat(pids).hasSize(5).containsOnly(transaction.pid());
        assertThat(isHeld(server, B)).isTrue();
        transaction.commit();
    }

    @Test
    void otherCallersOfThisProcess_waitBehindTheTransaction_untilItEnds() {
        OwnedTransaction transaction = begin();
        transaction.run(locks.withAdvisoryLock(A, Mono.just(1)));
        CompletableFuture<Integer> other =
                locks.exclusive(A).guard(Mono.just(2)).toFuture();
        CompletableFuture<Integer> inSession = locks.exclusive(A)
                .inSession()
                .waitAtMost(PATIENCE)
                .guard(Mono.just(3))
                .toFuture();
        sessions.awaitWaiting(1);
        assertThat(other).isNotDone();
        transaction.commit();
        assertThat(outcome(other)).isEqualTo("2");
        assertThat(outcome(inSession)).isEqualTo("3");
    }

    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void request_waitsOnTheServer_forAHolderOfThisProcess_longerThanOneSlice(boolean session) {
        HeldLock holder = get((session ? locks.exclusive(A).inSession() : locks.exclusive(A)).acquire());
        OwnedTransaction transaction = begin();
        CompletableFuture<Integer> call =
                transaction.around(locks.withAdvisoryLock(A, Mono.just(1))).toFuture();
        sessions.awaitWaiting(1);
        Await.rest(Duration.ofMillis(session ? 100 : 1_600));
        assertThat(call).isNotDone();
        NestingClients.end(holder.release());
        assertThat(outcome(call)).isEqualTo("1");
        transaction.commit();
    }

    @Test
    void manyCallers_inTransactionsAndWithout_excludeEachOther() {
        DefaultAdvisoryLocks second = client();
        List<PostgresqlConnection> connections = List.of(sessions.open(), sessions.open(), sessions.open());
        Flux<Integer> owners = Flux.fromIterable(connections)
                .flatMap(connection -> Mono.defer(() -> {
                            Sinks.Empty<Void> end = Sinks.empty();
                            OwnedTransaction transaction = OwnedTransaction.notBegun(connection);
                            return Sessions.send(connection, "begin")
                                    .then(transaction.around(locks.withAdvisoryLock(A, counted())))
                                    .doOnNext(done -> transaction.completes())
                                    .delayUntil(done -> connection.commitTransaction())
                                    .doOnTerminate(end::tryEmitEmpty);
                        })
                        .repeat(30));
        Flux<Integer> others =
                Flux.range(0, 60).flatMap(i -> (i % 2 == 0 ? locks : second).withAdvisoryLock(A, counted()), 4);
        assertThat(get(Flux.merge(owners, others).count())).isEqualTo(3 * 31 + 60);
        assertThat(most).hasValue(1);
    }

    @Test
    void deadlockOfTwoTransactions_isSeen_andTheOneThatIsRefusedStaysUsable() {
        OwnedTransaction one = begin();
        OwnedTransaction two = begin();
        one.run(locks.withAdvisoryLock(A, Mono.just(1)));
        two.run(locks.withAdvisoryLock(B, Mono.just(1)));
        CompletableFuture<Integer> first =
                one.around(locks.withAdvisoryLock(B, Mono.just(1))).toFuture();
        CompletableFuture<Integer> second =
                two.around(locks.withAdvisoryLock(A, Mono.just(1))).toFuture();
        CompletableFuture.anyOf(first.exceptionally(error -> -1), second.exceptionally(error -> -1))
                .orTimeout(10, TimeUnit.SECONDS)
                .join();
        boolean firstRefused = first.isDone();
        OwnedTransaction refused = firstRefused ? one : two;
        assertThat(outcome(firstRefused ? first : second)).isEqualTo("LockDeadlockException");
        refused.sql("insert into ambient values (1)");
        assertThat(isHeld(server, firstRefused ? A : B)).isTrue();
        refused.commit();
        assertThat(outcome(firstRefused ? second : first)).isEqualTo("1");
        (firstRefused ? two : one).commit();
        assertThat(written()).isEqualTo(1);
    }

    @Test
    void requireNew_hasItsOwnTransaction_whichIsJoinedInside() {
        OwnedTransaction transaction = begin();
        List<Integer> pids = transaction.run(locks.exclusive(A)
                .guard(ambient -> locks.exclusive(B)
                        .requireNew()
                        .guard(own -> locks.exclusive(LockKey.of(143))
                                .guard(inner -> Mono.just(
                                        List.of(ambient.backendPid(), own.backendPid(), inner.backendPid()))))));
        assertThat(pids.get(0)).isEqualTo(transaction.pid());
        assertThat(pids.get(1)).isNotEqualTo(transaction.pid()).isEqualTo(pids.get(2));
        assertThat(isHeld(server, B)).isFalse();
        transaction.commit();
    }

    @Test
    void transactionInsideAHold_isJoined_butForTheHoldsOwnKeys() {
        OwnedTransaction transaction = begin();
        List<Integer> pids = get(locks.exclusive(A)
                .guard(own -> transaction.around(locks.exclusive(B)
                        .guard(ambient -> locks.exclusive(A)
                                .guard(again -> Mono.just(
                                        List.of(own.backendPid(), ambient.backendPid(), again.backendPid())))))));
        assertThat(pids.get(1)).isEqualTo(transaction.pid());
        assertThat(pids.get(0)).isNotEqualTo(transaction.pid()).isEqualTo(pids.get(2));
        assertThat(isHeld(server, A)).isFalse();
        transaction.commit();
    }

    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void waitElsewhereForWhatTheTransactionHas_isRefused(boolean session) {
        OwnedTransaction transaction = begin();
        transaction.run(locks.withAdvisoryLock(A, Mono.just(1)));
        LockRequest elsewhere =
                session ? locks.exclusive(A).inSession() : locks.exclusive(A).requireNew();
        assertThatThrownBy(() -> transaction.run(elsewhere.guard(Mono.just(1))))
                .isInstanceOf(IllegalStateException.class)
                .hasMessageContaining("deadlock itself");
        transaction.commit();
        assertThat(get(elsewhere.guard(Mono.just(1)))).isEqualTo(1);
    }

    @Test
    void withoutATransactionAround_requestsAreAsEver() {
        int pid = get(locks.exclusive(A).guard(hold -> Mono.just(hold.backendPid())));
        assertThat(pid).isPositive();
        assertThat(locks.connections().allocated()).isEqualTo(1);
    }

    @Test
    void acquire_releaseEndsTheTurnOnly_andTheViewRefusesTheEndOfTheTransaction() {
        OwnedTransaction transaction = begin();
        HeldLock hold = transaction.run(locks.exclusive(A).acquire());
        assertThatThrownBy(() ->
                        get(Mono.from(hold.connection().commitTransaction()).thenReturn(1)))
                .isInstanceOf(IllegalStateException.class);
        NestingClients.end(Mono.from(hold.connection().close()));
        NestingClients.end(hold.release());
        assertThat(isHeld(server, A)).isTrue();
        assertThatThrownBy(() -> get(one(hold.connection(), "select 1"))).isInstanceOf(LockLostException.class);
        int again = transaction.run(locks.exclusive(A).noWait().guard(Mono.just(1)));
        assertThat(again).isEqualTo(1);
        transaction.commit();
    }
}
