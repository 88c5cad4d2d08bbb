package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.acquire;
import static io.r2lock.TestClients.execute;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.List;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.reactivestreams.Publisher;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.test.StepVerifier;

/**
 * What guarded work may rely on in transaction scope: when it is committed, when it is rolled back, and what its caller sees when.
 *
 * <p>The table's COMMIT takes 100 ms, so that "before" and "after" COMMIT can be told apart.
 */
abstract class LockContract extends GuardContract {

    private DefaultAdvisoryLocks locks;

    @SuppressWarnings("NullAway.Init")
    LockContract(TestServer server) {
        super(server, LockRequest::inTransaction);
    }

    @BeforeEach
    void setUp() {
        server.execute("drop table if exists contract", "create table contract (id int)", """
                create or replace function slow_commit() returns trigger language plpgsql as
                'begin perform pg_sleep(0.1); return null; end'""", """
                create constraint trigger slow_commit after insert on contract
                deferrable initially deferred for each row execute function slow_commit()""");
        locks = clients.open(server);
    }

    private long rows() {
        return server.count("select count(*) from contract");
    }

    private static Mono<Integer> insert(HeldLock hold, int id) {
        return execute(hold, "insert into contract values (" + id + ")").thenReturn(id);
    }

    private void nothingIsCommitted() {
        residue.check(); // the rollback has ended
        assertThat(rows()).isZero();
    }

    @Test
    void mono_emitsAfterCommit() {
        Mono<Integer> call = locks.exclusive(KEY).guard((HeldLock hold) -> insert(hold, 1));

        StepVerifier.create(call)
                .expectNext(1)
                .then(() -> assertThat(rows()).isEqualTo(1))
                .verifyComplete();
    }

    @Test
    void monoTypedAsPublisher_emitsAfterCommit() {
        Publisher<Integer> work = Mono.deferContextual(context -> insert(context.<Hold>get(locks), 1));

        StepVerifier.create(locks.withAdvisoryLock(KEY, work))
                .expectNext(1)
                .then(() -> assertThat(rows()).isEqualTo(1))
                .verifyComplete();
        StepVerifier.create(locks.tryWithAdvisoryLock(KEY, work))
                .expectNext(1)
                .then(() -> assertThat(rows()).isEqualTo(2))
                .verifyComplete();
    }

    @Test
    void flux_emitsBeforeCommit_andCompletesAfterIt() {
        Flux<Integer> call =
                locks.exclusive(KEY).guardMany(hold -> Flux.just(1, 2).concatMap(id -> insert(hold, id), 0));

        StepVerifier.create(call, 1)
                .expectNext(1)
                .then(() -> assertThat(rows()).isZero())
                .thenRequest(1)
                .expectNext(2)
                .verifyComplete();
        assertThat(rows()).isEqualTo(2);
    }

    @Test
    void mono_next_andTakeOne_ofAFlux_rollBack() {
        Flux<Integer> call =
                locks.exclusive(KEY).guardMany(hold -> Flux.just(1, 2).concatMap(id -> insert(hold, id), 0));

        assertThat(call.next().block(PATIENCE)).isEqualTo(1);
        nothingIsCommitted();
        assertThat(call.take(1).blockLast(PATIENCE)).isEqualTo(1);
        nothingIsCommitted();
    }

    @Test
    void emptyWork_completesEmpty_andCommits() {
        Mono<Object> mono =
                locks.exclusive(KEY).guard((HeldLock hold) -> insert(hold, 1).then(Mono.empty()));
        StepVerifier.create(mono).verifyComplete();
        assertThat(rows()).isEqualTo(1);

        StepVerifier.create(
                        locks.exclusive(KEY).guardMany(hold -> insert(hold, 2).thenMany(Flux.empty())))
                .verifyComplete();
        assertThat(rows()).isEqualTo(2);
        StepVerifier.create(locks.withAdvisoryLock(KEY, Mono.empty())).verifyComplete();
    }

    @Test
    void mono_waitsForItsRequest_butCommitsBefore() {
        StepVerifier.create(locks.exclusive(KEY).guard((HeldLock hold) -> insert(hold, 1)), 0)
                .then(() -> Await.until("commit", () -> rows() == 1))
                .thenRequest(1)
                .expectNext(1)
                .verifyComplete();
    }

    @Test
    void errorOfTheWork_rollsBack_andPassesThroughUntouched() {
        IllegalStateException error = new IllegalStateException("of the work");

        assertThatThrownBy(() -> locks.exclusive(KEY)
                        .guard((HeldLock hold) -> insert(hold, 1).then(Mono.error(error)))
                        .block(PATIENCE))
                .isSameAs(error);
        nothingIsCommitted();
        StepVerifier.create(
                        locks.exclusive(KEY).guardMany(hold -> insert(hold, 1).concatWith(Mono.error(error))))
                .expectNext(1)
                .expectErrorSatisfies(seen -> assertThat(seen).isSameAs(error))
                .verify(PATIENCE);
        nothingIsCommitted();
    }

    @Test
    void errorOfAStatement_rollsBack_andIsTheDrivers() {
        assertThatThrownBy(() -> locks.exclusive(KEY)
                        .guard((HeldLock hold) -> insert(hold, 1).then(execute(hold, "select 1/0")))
                        .block(PATIENCE))
                .isInstanceOf(io.r2dbc.spi.R2dbcException.class)
                .hasMessageContaining("division by zero");
        nothingIsCommitted();
    }

    @Test
    void swallowedErrorOfAStatement_isNoSuccess() {
        // the server answers COMMIT of a failed transaction with ROLLBACK
        Mono<Integer> call = locks.exclusive(KEY)
                .guard((HeldLock hold) -> insert(hold, 1)
                        .then(execute(hold, "select 1/0").onErrorComplete())
                        .thenReturn(1));
        assertThatThrownBy(() -> call.block(PATIENCE)).isInstanceOf(io.r2dbc.spi.R2dbcRollbackException.class);
        nothingIsCommitted();
    }

    @Test
    void everySubscription_beginsAnew() {
        Mono<Integer> call = locks.exclusive(KEY).guard((HeldLock hold) -> insert(hold, 1));
        assertThat(rows()).isZero();

        assertThat(call.repeat(2).collectList().block(PATIENCE)).isEqualTo(List.of(1, 1, 1));
        assertThat(rows()).isEqualTo(3);
    }

    @Test
    void acquiredHold_commitsOnce_andReleaseAfterwardsChangesNothing() {
        HeldLock hold = acquire(locks.exclusive(KEY));
        insert(hold, 1).block(PATIENCE);
        hold.commit().block(PATIENCE);
        assertThat(rows()).isEqualTo(1);

        hold.commit().block(PATIENCE);
        hold.release().block(PATIENCE);
        hold.release().block(PATIENCE);
        assertThat(rows()).isEqualTo(1);
    }

    @Test
    void acquiredHold_rollsBackOnRelease_andCommitAfterwardsErrors() {
        HeldLock hold = acquire(locks.exclusive(KEY));
        insert(hold, 1).block(PATIENCE);
        hold.release().block(PATIENCE);
        hold.release().block(PATIENCE);

        assertThatThrownBy(() -> hold.commit().block(PATIENCE)).isInstanceOf(IllegalStateException.class);
        assertThatThrownBy(() -> insert(hold, 2).block(PATIENCE)).isInstanceOf(LockLostException.class);
        nothingIsCommitted();
    }

    @Test
    void usingWhen_withFailingWork_commitsNothing() {
        IllegalStateException error = new IllegalStateException("of the work");
        Mono<Integer> failing = Mono.usingWhen(
                locks.exclusive(KEY).acquire(),
                hold -> insert(hold, 1).then(Mono.error(error)),
                HeldLock::commit,
                (hold, thrown) -> hold.release(),
                HeldLock::release);
        assertThatThrownBy(() -> failing.block(PATIENCE)).isSameAs(error);
        assertThatThrownBy(() -> Mono.usingWhen(
                                locks.exclusive(KEY).acquire(),
                                hold -> insert(hold, 1).then(Mono.error(error)),
                                HeldLock::release)
                        .block(PATIENCE))
                .isSameAs(error);
        nothingIsCommitted();

        assertThat(Mono.usingWhen(
                                locks.exclusive(KEY).acquire(),
                                hold -> insert(hold, 1).delayUntil(done -> hold.commit()),
                                HeldLock::release)
                        .block(PATIENCE))
                .isEqualTo(1);
        assertThat(rows()).isEqualTo(1);
    }
}
