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
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;
import reactor.core.scheduler.Scheduler;
import reactor.core.scheduler.Schedulers;
import reactor.util.context.ContextView;

/** A request inside a hold: what it joins, what it refuses, and what its failure does to the hold around it. */
class NestingIT {

    private static final LockKey A = LockKey.of(101);
    private static final LockKey B = LockKey.of(102);
    private static final LockKey C = LockKey.of(103);

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
        server.execute("create table if not exists nesting (id int)", "truncate nesting");
        locks = clients.on(server, residue);
    }

    private static Mono<String> transaction(HeldLock hold) {
        return one(hold.connection(), "select pg_backend_pid() || '/' || pg_current_xact_id()");
    }

    private List<String> written() {
        return server.query("select id from nesting order by id").stream()
                .map(row -> String.valueOf(row.get("id")))
                .toList();
    }

    @Test
    void sameKey_isReentrant_withoutAnotherStatement() {
        List<String> seen = get(locks.exclusive(A)
                .guard(outer -> locks.exclusive(A)
                        .guard(inner -> one(
                                        inner.connection(),
                                        "select pg_backend_pid() || ' ' || query from pg_stat_activity where pid ="
                                                + " pg_backend_pid()")
                                .map(text -> List.of("" + outer.backendPid(), "" + inner.backendPid(), text)))));

        assertThat(seen.get(1)).isEqualTo(seen.get(0));
        assertThat(seen.get(2)).startsWith(seen.get(0) + " select pg_backend_pid()");

        // a statement for the inner lock would show as the last one that the connection ran
        String last = get(locks.exclusive(A)
                .guard(outer -> locks.exclusive(A)
                        .guard(inner -> Mono.fromSupplier(() -> String.valueOf(server.query(
                                                "select query from pg_stat_activity where pid = " + outer.backendPid())
                                        .get(0)
                                        .get("query")))
                                .subscribeOn(Schedulers.boundedElastic()))));
        assertThat(last).startsWith("BEGIN").doesNotContain("SAVEPOINT");
    }

    @Test
    void otherKey_isTakenInTheSameTransaction_andHeldUntilThatEnds() {
        Sinks.Empty<Void> mayEnd = Sinks.empty();
        CompletableFuture<List<String>> call = locks.exclusive(A)
                .guard(outer -> transaction(outer)
                        .flatMap(first -> locks.exclusive(B)
                                .guard(inner -> run(inner.connection(), "insert into nesting values (1)")
                                        .then(transaction(inner)))
                                .map(second -> List.of(first, second)))
                        .delayUntil(both -> mayEnd.asMono()))
                .toFuture();

        Await.until("inner lock", () -> isHeld(server, B));
        Await.until(
                "inner done",
                () -> server.count(
                                "select count(*) from pg_stat_activity where application_name = 'r2lock' and state = 'idle in"
                                        + " transaction' and query like '%pg_current_xact_id%'")
                        == 1);
        assertThat(get(locks.exclusive(B).skipIfBusy().guard(Mono.just(true)).defaultIfEmpty(false)))
                .as("still held after the inner end")
                .isFalse();
        assertThat(written()).as("not committed yet").isEmpty();

        mayEnd.tryEmitEmpty().orThrow();
        List<String> both = call.orTimeout(10, TimeUnit.SECONDS).join();
        assertThat(both.get(0)).isEqualTo(both.get(1));
        assertThat(isHeld(server, B)).isFalse();
        assertThat(written()).containsExactly("1");
        assertThat(get(locks.exclusive(B).noWait().guard(Mono.just(true)))).isTrue();
    }

    private enum InnerEnd {
        TIMEOUT,
        BUSY,
        CANCEL
    }

    @ParameterizedTest
    @EnumSource
    void failingInnerRequest_doesNotDoomTheOuterTransaction_andFreesWhatItHadTaken(InnerEnd end) {
        try (Sessions sessions = new Sessions(server)) {
            PostgresqlConnection elsewhere = sessions.open();
            Sessions.run(elsewhere, "select pg_advisory_lock(103)");

            String outcome = get(locks.exclusive(A)
                    .guard(outer -> run(outer.connection(), "insert into nesting values (1)")
                            .then(
                                    switch (end) {
                                        case TIMEOUT ->
                                            ended(locks.exclusive(B, C)
                                                    .waitAtMost(Duration.ofMillis(300))
                                                    .guard(Mono.just("no")));
                                        case BUSY ->
                                            ended(locks.exclusive(B, C).noWait().guard(Mono.just("no")));
                                        case CANCEL ->
                                            locks.exclusive(B, C)
                                                    .guard(Mono.just("no"))
                                                    .timeout(Mono.delay(Duration.ofMillis(300)))
                                                    .onErrorResume(gone -> Mono.just("cancelled"));
                                    })
                            .flatMap(how -> free(B).map(free -> how + " " + free))
                            .delayUntil(how -> run(outer.connection(), "insert into nesting values (2)"))));

            assertThat(outcome)
                    .isEqualTo(
                            switch (end) {
                                case TIMEOUT -> "LockTimeoutException true";
                                case BUSY -> "LockNotAvailableException true";
                                case CANCEL -> "cancelled true";
                            });
            assertThat(written()).containsExactly("1", "2");
            Sessions.run(elsewhere, "select pg_advisory_unlock_all()");
        }
    }

    private static Mono<String> ended(Mono<String> call) {
        return call.onErrorResume(error -> Mono.just(error.getClass().getSimpleName()));
    }

    /** Whether another client soon gets the key. */
    private Mono<Boolean> free(LockKey key) {
        return Mono.fromSupplier(() -> Await.value(() -> !isHeld(server, key), free -> free, Duration.ofSeconds(2)))
                .subscribeOn(Schedulers.boundedElastic());
    }

    @Test
    void sharedThenExclusive_isRefused() {
        assertThatThrownBy(() -> locks.shared(A)
                        .guard(locks.exclusive(A).guard(Mono.just(1)))
                        .block(PATIENCE))
                .isInstanceOf(IllegalStateException.class)
                .hasMessageContaining("shared");
        assertThatThrownBy(() -> locks.shared(A)
                        .guard(locks.exclusive(B).guard(locks.exclusive(A, C).guard(Mono.just(1))))
                        .block(PATIENCE))
                .isInstanceOf(IllegalStateException.class);
    }

    @Test
    void exclusiveThenShared_isReentrant() {
        assertThat(get(locks.exclusive(A).guard(locks.shared(A).guard(Mono.just(1)))))
                .isEqualTo(1);
    }

    @Test
    void requireNew_hasItsOwnBackend_andCommitsOnItsOwn() {
        assertThatThrownBy(() -> locks.exclusive(A)
                        .guard(outer -> run(outer.connection(), "insert into nesting values (1)")
                                .then(locks.exclusive(B)
                                        .requireNew()
                                        .guard(inner -> run(inner.connection(), "insert into nesting values (2)")
                                                .thenReturn(inner.backendPid())))
                                .doOnNext(pid -> assertThat(pid).isNotEqualTo(outer.backendPid()))
                                .then(Mono.error(new IllegalArgumentException("outer fails"))))
                        .block(PATIENCE))
                .hasMessage("outer fails");
        assertThat(written()).containsExactly("2");
    }

    @Test
    void requireNew_ofAKeyThatTheChainHolds_isRefused() {
        assertThatThrownBy(() -> locks.exclusive(A)
                        .guard(locks.exclusive(A).requireNew().guard(Mono.just(1)))
                        .block(PATIENCE))
                .isInstanceOf(IllegalStateException.class);
        assertThatThrownBy(() -> locks.exclusive(A)
                        .guard(locks.exclusive(B)
                                .guard(locks.exclusive(C, B).requireNew().guard(Mono.just(1))))
                        .block(PATIENCE))
                .isInstanceOf(IllegalStateException.class);
        assertThatThrownBy(() -> locks.exclusive(A)
                        .guard(locks.exclusive(B)
                                .requireNew()
                                .guard(locks.exclusive(A).guard(Mono.just(1))))
                        .block(PATIENCE))
                .as("inside a requireNew")
                .isInstanceOf(IllegalStateException.class);
    }

    @Test
    void contextOfAnEndedHold_startsAfresh() {
        ContextView[] captured = new ContextView[1];
        int first = get(locks.exclusive(A)
                .guard(hold -> Mono.deferContextual(context -> {
                    captured[0] = context;
                    return Mono.just(hold.backendPid());
                })));
        assertThat(first).isPositive();

        // another caller holds the key: joining a hold that is gone would not wait for it
        HeldLock other = get(locks.exclusive(A).acquire());
        CompletableFuture<String> late = locks.exclusive(A)
                .guard(hold -> transaction(hold))
                .contextWrite(captured[0])
                .toFuture();
        assertThat(locks.gates().size()).isEqualTo(1);
        assertThat(late).isNotDone();
        NestingClients.end(other.release());
        assertThat(late.orTimeout(10, TimeUnit.SECONDS).join()).isNotEmpty();
    }

    @Test
    void contextOfAnEndedInnerHold_joinsTheOuterOne() {
        ContextView[] captured = new ContextView[1];
        List<String> both = get(locks.exclusive(A)
                .guard(outer -> locks.exclusive(B)
                        .guard(inner -> Mono.deferContextual(context -> {
                            captured[0] = context;
                            return transaction(inner);
                        }))
                        .flatMap(first -> locks.exclusive(B)
                                .waitAtMost(Duration.ofSeconds(2))
                                .guard(again -> transaction(again).map(second -> List.of(first, second)))
                                .contextWrite(context -> context.putAll(captured[0])))));
        assertThat(both.get(1)).isEqualTo(both.get(0));
    }

    @Test
    void twoChainsOnOneThread_neverShareAHold() {
        Scheduler single = Schedulers.newSingle("one-thread");
        DefaultAdvisoryLocks onOne = clients.on(server, residue, builder -> builder.workScheduler(single));
        Set<String> inside = ConcurrentHashMap.newKeySet();
        try {
            List<Integer> most = get(Flux.range(0, 20)
                    .flatMap(i -> onOne.exclusive(A)
                            .guard(onOne.exclusive(A).guard(Mono.defer(() -> {
                                inside.add("chain " + i);
                                return Mono.delay(Duration.ofMillis(2), single)
                                        .map(tick -> inside.size())
                                        .doFinally(signal -> inside.remove("chain " + i));
                            })))
                            .subscribeOn(single))
                    .collectList());
            assertThat(most).hasSize(20).containsOnly(1);
        } finally {
            single.dispose();
        }
    }
}
