package io.r2lock;

import static io.r2lock.NestingClients.PATIENCE;
import static io.r2lock.NestingClients.get;
import static io.r2lock.NestingClients.isHeld;
import static io.r2lock.NestingClients.one;
import static io.r2lock.NestingClients.run;
import static io.r2lock.NestingClients.waiting;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import reactor.core.Disposable;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;
import reactor.core.scheduler.Schedulers;

/** What a nested lock does to the settings around it, and holds that their caller ends. */
class NestedHoldIT {

    private static final LockKey A = LockKey.of(121);
    private static final LockKey B = LockKey.of(122);
    private static final LockKey C = LockKey.of(123);

    private final TestServer server = TestServer.newest();

    @RegisterExtension
    @Order(1)
    final NestingClients clients = new NestingClients();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    private DefaultAdvisoryLocks locks;

    @BeforeEach
    void prepare() {
        locks = clients.on(server, residue);
    }

    @Test
    void usersOwnLimits_areUnchangedByANestedLock() {
        String limits = get(
                locks.exclusive(A)
                        .guard(
                                hold -> run(
                                                hold.connection(),
                                                "set local lock_timeout = '7s'; set local statement_timeout = '8s'")
                                        .then(locks.exclusive(B).guard(Mono.just(1)))
                                        .then(locks.exclusive(C).noWait().guard(Mono.just(1)))
                                        .then(
                                                one(
                                                        hold.connection(),
                                                        "select current_setting('lock_timeout') || ' ' || current_setting('statement_timeout')"))));
        assertThat(limits).isEqualTo("7s 8s");
    }

    @Test
    void usersOwnLimits_doNotLimitANestedWait() {
        try (Sessions sessions = new Sessions(server)) {
            PostgresqlConnection elsewhere = sessions.open();
            Sessions.run(elsewhere, "select pg_advisory_lock(122)");
            CompletableFuture<String> call = locks.exclusive(A)
                    .guard(hold -> run(
                                    hold.connection(),
                                    "set local lock_timeout = '100ms'; set local statement_timeout = '100ms'")
                            .then(locks.exclusive(B)
                                    .guard(inner -> one(inner.connection(), "select current_setting('lock_timeout')"))))
                    .toFuture();
            sessions.awaitWaiting(1);
            Mono.delay(Duration.ofMillis(300)).block(PATIENCE);
            assertThat(waiting(server)).isEqualTo(1);
            Sessions.run(elsewhere, "select pg_advisory_unlock(122)");
            assertThat(call.orTimeout(10, TimeUnit.SECONDS).join()).isEqualTo("100ms");
        }
    }

    @Test
    void acquireAndGuard_nestedRequestsJoin_andReleaseEndsTheWork() {
        HeldLock hold = get(locks.exclusive(A).acquire());
        int joined = get(hold.guard(locks.exclusive(A).guard(inner -> Mono.just(inner.backendPid()))));
        assertThat(joined).isEqualTo(hold.backendPid());

        Sinks.Empty<Boolean> wasHeld = Sinks.empty();
        Sinks.One<Boolean> heldAtCancel = Sinks.one();
        CompletableFuture<Object> guarded = hold.guard(wasHeld.asMono()
                        .cast(Object.class)
                        .doOnCancel(
                                () -> heldAtCancel.tryEmitValue(locks.gates().size() == 1)))
                .toFuture();
        NestingClients.end(hold.release());
        assertThatThrownBy(() -> guarded.orTimeout(5, TimeUnit.SECONDS).join())
                .hasCauseInstanceOf(LockLostException.class);
        assertThat(get(heldAtCancel.asMono()))
                .as("cancelled before the key was free")
                .isTrue();
        assertThatThrownBy(() -> hold.guard(Mono.just(1)).block(PATIENCE)).isInstanceOf(LockLostException.class);
    }

    @Test
    void nestedAcquire_releaseEndsTheTurnOnly() {
        get(locks.exclusive(A)
                .guard(outer -> locks.exclusive(B)
                        .acquire()
                        .flatMap(inner -> locks.exclusive(B)
                                .noWait()
                                .guard(Mono.just("in"))
                                .onErrorReturn(LockNotAvailableException.class, "busy")
                                .doOnNext(sibling -> assertThat(sibling).isEqualTo("busy"))
                                .then(inner.release())
                                .then(Mono.fromSupplier(() -> isHeld(server, B))
                                        .subscribeOn(Schedulers.boundedElastic()))
                                .doOnNext(held -> assertThat(held).isTrue())
                                .then(locks.exclusive(B).noWait().guard(Mono.just("in"))))));
        assertThat(isHeld(server, B)).isFalse();
    }

    @Test
    void cancelOfTheOuterCall_whileAnInnerOneWaits_leavesNothing() {
        try (Sessions sessions = new Sessions(server)) {
            PostgresqlConnection elsewhere = sessions.open();
            Sessions.run(elsewhere, "select pg_advisory_lock(122)");
            Disposable call = locks.exclusive(A)
                    .guard(locks.exclusive(B).guard(Mono.never()))
                    .subscribe();
            sessions.awaitWaiting(1);
            call.dispose();
            Await.until("both gone", () -> waiting(server) == 0 && !isHeld(server, A));
            assertThat(get(locks.exclusive(A).guard(Mono.just(1)))).isEqualTo(1);
            Sessions.run(elsewhere, "select pg_advisory_unlock_all()");
        }
    }
}
