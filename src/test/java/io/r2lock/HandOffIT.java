package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.acquire;
import static io.r2lock.TestClients.execute;
import static io.r2lock.TestClients.free;
import static io.r2lock.TestClients.release;
import static org.assertj.core.api.Assertions.assertThat;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import io.r2dbc.spi.R2dbcDataIntegrityViolationException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import reactor.core.Disposable;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Scheduler;
import reactor.core.scheduler.Schedulers;

/** A connection passes from one hold to the next local waiter of its key. */
class HandOffIT {

    private static final Logger LOG = LoggerFactory.getLogger(HandOffIT.class);
    private static final LockKey HOT = LockKey.of(17_001);
    private static final int SLOW_COMMITS = 1_000;

    private final TestServer server = TestServer.newest();
    private final Sessions sessions = new Sessions(server);

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    @BeforeEach
    void prepare() {
        server.execute(
                "drop table if exists hand_off_child, hand_off_parent, hand_off cascade",
                "create table hand_off_parent (id int primary key)",
                "create table hand_off_child (id int references hand_off_parent deferrable initially deferred)",
                "create table hand_off (id int primary key)",
                "create or replace function slow_hand_off() returns trigger language plpgsql as"
                        + " $$begin perform pg_sleep(0.005); return null; end$$",
                "create constraint trigger slow_hand_off after insert on hand_off deferrable initially deferred"
                        + " for each row execute function slow_hand_off()");
    }

    @AfterEach
    void close() {
        sessions.close();
    }

    private static Mono<Integer> insert(AdvisoryLocks locks, int id) {
        return locks.exclusive(HOT)
                .guard((HeldLock hold) -> execute(hold, "insert into hand_off values (" + id + ")")
                        .thenReturn(hold.backendPid()));
    }

    /** What the cancels of one test met. */
    private final AtomicInteger inCommit = new AtomicInteger();

    private final AtomicInteger handedOver = new AtomicInteger();
    private final List<Throwable> errors = Collections.synchronizedList(new ArrayList<>());

    /** From before the COMMIT runs to after the next one has the lock. */
    private void commitAndCancelTheNext(AdvisoryLocks locks, int id, Scheduler timer) {
        HeldLock first = acquire(locks.exclusive(HOT));
        execute(first, "insert into hand_off values (" + id + ")").block(PATIENCE);
        AtomicBoolean committed = new AtomicBoolean();
        Disposable next = locks.exclusive(HOT)
                .guard((HeldLock hold) -> {
                    if (hold.backendPid() == first.backendPid()) {
                        handedOver.incrementAndGet();
                    }
                    return Mono.<Void>never();
                })
                .subscribe(nothing -> {}, errors::add);
        CompletableFuture<Void> commit =
                first.commit().doOnSuccess(done -> committed.set(true)).toFuture();
        CompletableFuture<Void> cancelled = new CompletableFuture<>();
        timer.schedule(
                () -> {
                    if (!committed.get()) {
                        inCommit.incrementAndGet();
                    }
                    next.dispose();
                    cancelled.complete(null);
                },
                ThreadLocalRandom.current().nextInt(9_000),
                TimeUnit.MICROSECONDS);
        assertThat(commit).succeedsWithin(PATIENCE);
        assertThat(cancelled).succeedsWithin(PATIENCE);
    }

    @Test
    void slowCommit_isNeverHit_byACancelOfTheNextOne() {
        DefaultAdvisoryLocks locks = clients.open(server);
        Scheduler timer = Schedulers.newSingle("canceller");
        for (int i = 0; i < SLOW_COMMITS; i++) {
            commitAndCancelTheNext(locks, i, timer);
        }
        timer.dispose();
        assertThat(errors).isEmpty();
        assertThat(server.count("select count(*) from hand_off")).isEqualTo(SLOW_COMMITS);
        residue.check();
        LOG.info("{} cancels, {} of them during the COMMIT; {} came to a hold", SLOW_COMMITS, inCommit, handedOver);
        assertThat(inCommit).hasValueGreaterThan(SLOW_COMMITS / 10);
        assertThat(handedOver).hasPositiveValue();
    }

    @Test
    void cancelledDuringTheCommit_leavesTheServersQueue_whenThatHasEnded() {
        DefaultAdvisoryLocks locks = clients.open(server);
        HeldLock first = acquire(locks.exclusive(HOT));
        execute(first, "insert into hand_off values (1)").block(PATIENCE);
        PostgresqlConnection other = sessions.open();
        CompletableFuture<Void> elsewhere =
                Sessions.send(other, "select pg_advisory_lock(17001)").toFuture();
        sessions.awaitWaiting(1);
        Disposable next = locks.exclusive(HOT).guard(Mono.never()).subscribe();
        CompletableFuture<Void> commit = first.commit().toFuture();
        next.dispose();
        assertThat(commit).succeedsWithin(PATIENCE);
        assertThat(elsewhere).succeedsWithin(PATIENCE);
        sessions.awaitWaiting(0);
        Await.until("the connection is back", () -> locks.connections().acquired() == 0);
        free(other, 17_001);
    }

    @Test
    void theFirstOne_isToldBeforeTheNextHasItsLock_andTheOtherProcessHasItsTurn() {
        DefaultAdvisoryLocks locks = clients.open(server);
        HeldLock first = acquire(locks.exclusive(HOT));
        PostgresqlConnection other = sessions.open();
        CompletableFuture<Void> elsewhere =
                Sessions.send(other, "select pg_advisory_lock(17001)").toFuture();
        sessions.awaitWaiting(1);
        CompletableFuture<Integer> next = locks.exclusive(HOT)
                .guard((HeldLock hold) -> Mono.just(hold.backendPid()))
                .toFuture();
        assertThat(first.commit().toFuture()).succeedsWithin(PATIENCE);
        assertThat(elsewhere).succeedsWithin(PATIENCE);
        sessions.awaitWaiting(1);
        assertThat(next).isNotDone();
        assertThat(locks.connections().serverWaits()).isEqualTo(1);
        free(other, 17_001);
        assertThat(next).succeedsWithin(PATIENCE).isEqualTo(first.backendPid());
    }

    @Test
    void aRefusedCommit_isTheServersError_andTheNextOneGoesOn() {
        DefaultAdvisoryLocks locks = clients.open(server);
        for (int i = 0; i < 20; i++) {
            HeldLock first = acquire(locks.exclusive(HOT));
            execute(first, "insert into hand_off_child values (99)").block(PATIENCE);
            CompletableFuture<Integer> next = insert(locks, i).toFuture();
            assertThat(first.commit().toFuture())
                    .failsWithin(PATIENCE)
                    .withThrowableThat()
                    .havingCause()
                    .isInstanceOf(R2dbcDataIntegrityViolationException.class);
            assertThat(next).succeedsWithin(PATIENCE).isEqualTo(first.backendPid());
        }
        assertThat(server.count("select count(*) from hand_off")).isEqualTo(20);
    }

    @Test
    void aRelease_passesOnToo_andNothingOfTheFirstIsLeftToTheNext() {
        DefaultAdvisoryLocks locks = clients.open(server);
        HeldLock first = acquire(locks.exclusive(HOT));
        execute(first, "set work_mem = '77MB'; create temporary table mine (id int)")
                .block(PATIENCE);
        CompletableFuture<String> next = locks.exclusive(HOT)
                .guard((HeldLock hold) -> Flux.from(hold.connection()
                                .createStatement(
                                        "select pg_backend_pid() || ' ' || current_setting('work_mem') || coalesce(to_regclass('mine')::text, '')")
                                .execute())
                        .flatMap(result -> result.map(row -> String.valueOf(row.get(0))))
                        .single())
                .toFuture();
        release(first);
        assertThat(next).succeedsWithin(PATIENCE).isEqualTo(first.backendPid() + " 4MB");
    }

    @Test
    void theOnlyConnection_isNotHandedToAWait() {
        DefaultAdvisoryLocks locks = clients.open(server, builder -> builder.maxConnections(1));
        HeldLock first = acquire(locks.exclusive(HOT));
        PostgresqlConnection other = sessions.open();
        CompletableFuture<Void> elsewhere =
                Sessions.send(other, "select pg_advisory_lock(17001)").toFuture();
        sessions.awaitWaiting(1);
        CompletableFuture<Integer> next =
                locks.withAdvisoryLock(HOT, Mono.just(1)).toFuture();
        release(first);
        assertThat(elsewhere).succeedsWithin(PATIENCE);
        for (int i = 0; i < 20; i++) {
            assertThat(locks.withAdvisoryLock(LockKey.of(17_002), Mono.just(2)).block(PATIENCE))
                    .isEqualTo(2);
            assertThat(sessions.waiting()).isZero();
        }
        free(other, 17_001);
        assertThat(next).succeedsWithin(PATIENCE).isEqualTo(1);
    }

    /** One waits in the server's queue, the other one polls; both count the holds of the crowd between two of their own. */
    @Test
    void otherProcesses_haveTheirTurns() {
        int limit = 16;
        DefaultAdvisoryLocks crowd = clients.open(server, builder -> builder.handOffLimit(limit));
        DefaultAdvisoryLocks queued = clients.open(server);
        DefaultAdvisoryLocks polling = clients.open(server);
        AtomicInteger holds = new AtomicInteger();
        AtomicBoolean goesOn = new AtomicBoolean(true);
        Mono<Integer> member = crowd.withAdvisoryLock(HOT, Mono.fromSupplier(holds::incrementAndGet));
        CompletableFuture<Void> all = Flux.range(0, 50)
                .flatMap(i -> member.repeat(goesOn::get), 50)
                .then()
                .toFuture();
        Await.until("the crowd is there", () -> holds.get() > 100);

        int most = 0;
        int before = holds.get();
        for (int i = 0; i < 50; i++) {
            // as long as its turn is on its way the crowd may pass the key on once more
            int asked = holds.get();
            CompletableFuture<Integer> turn =
                    queued.withAdvisoryLock(HOT, Mono.fromSupplier(holds::get)).toFuture();
            awaitQueuedElsewhere(turn);
            int since = holds.get();
            assertThat(turn).succeedsWithin(PATIENCE);
            most = Math.max(most, turn.join() - since);
            assertThat(asked).isLessThanOrEqualTo(turn.join());
        }
        LOG.info(
                "50 turns of a queued process in {} of the crowd; at most {} while it stood in the server's queue",
                holds.get() - before,
                most);
        assertThat(most).isLessThanOrEqualTo(limit);

        int polls = holds.get();
        LockRequest request = polling.exclusive(HOT).polling().waitForever();
        for (int i = 0; i < 3; i++) {
            assertThat(request.guard(Mono.just(1)).toFuture()).succeedsWithin(PATIENCE);
        }
        LOG.info("3 turns of a polling process in {} of the crowd", holds.get() - polls);
        goesOn.set(false);
        assertThat(all).succeedsWithin(PATIENCE);
    }

    private void awaitQueuedElsewhere(CompletableFuture<?> turn) {
        Await.until("queued, or granted", () -> turn.isDone() || sessions.waiting() > 0);
    }
}
