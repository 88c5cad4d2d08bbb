package io.r2lock;

import static io.r2lock.NestingClients.PATIENCE;
import static io.r2lock.NestingClients.get;
import static io.r2lock.NestingClients.isHeld;
import static io.r2lock.NestingClients.one;
import static io.r2lock.NestingClients.run;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import io.r2dbc.postgresql.api.PostgresqlConnection;
import io.r2dbc.spi.R2dbcDataIntegrityViolationException;
import io.r2dbc.spi.R2dbcException;
import io.r2dbc.spi.R2dbcRollbackException;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.slf4j.event.Level;
import reactor.core.Disposable;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;
import reactor.test.StepVerifier;

/** What COMMIT says is what the caller is told, and a value only comes after it succeeded. */
class CommitIT {

    private static final LockKey A = LockKey.of(151);
    private static final LockKey B = LockKey.of(152);

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
        server.execute(
                "drop table if exists child, parent, slow cascade",
                "create table parent (id int primary key, v int)",
                "create table child (id int references parent deferrable initially deferred)",
                "create table slow (id int)",
                "create or replace function slow_commit() returns trigger language plpgsql as"
                        + " $$begin perform pg_sleep(0.7); return null; end$$",
                "create constraint trigger slow_commit after insert on slow deferrable initially deferred"
                        + " for each row execute function slow_commit()",
                "insert into parent values (1, 0), (2, 0)");
        locks = clients.on(server, residue, builder -> builder.maxConnections(1));
    }

    private int pid() {
        return get(locks.exclusive(A).guard(hold -> Mono.just(hold.backendPid())));
    }

    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void holderSeesWhatThePreviousOneCommitted_underARepeatableReadDefault(boolean byRole) {
        server.execute(
                "drop role if exists repeatable",
                "create role repeatable superuser login password 'x'",
                "alter role repeatable set default_transaction_isolation = 'repeatable read'");
        AdvisoryLocks.Builder builder = byRole
                ? AdvisoryLocks.builder(new PostgresqlConnectionFactory(server.configuration()
                        .username("repeatable")
                        .password("x")
                        .build()))
                : AdvisoryLocks.builder(server.connectionFactory())
                        .connectionSetting("default_transaction_isolation", "repeatable read");
        DefaultAdvisoryLocks repeatable = clients.with(builder, residue, same -> same);
        String level = get(
                repeatable.exclusive(B).guard(hold -> one(hold.connection(), "show default_transaction_isolation")));
        assertThat(level).isEqualTo("repeatable read");

        List<String> seen = get(Flux.range(0, 20)
                .flatMap(i -> repeatable
                        .exclusive(A)
                        .guard(hold -> one(hold.connection(), "select v from parent where id = 1")
                                .delayUntil(v -> run(hold.connection(), "update parent set v = v + 1 where id = 1"))))
                .collectList());
        assertThat(seen).doesNotHaveDuplicates().hasSize(20);

        try (Sessions sessions = new Sessions(server)) {
            PostgresqlConnection elsewhere = sessions.open();
            Sessions.run(elsewhere, "begin; select pg_advisory_xact_lock(151)");
            CompletableFuture<String> call = repeatable
                    .exclusive(A)
                    .guard(hold -> one(hold.connection(), "select v from parent where id = 2"))
                    .toFuture();
            sessions.awaitWaiting(1);
            Sessions.run(elsewhere, "update parent set v = 42 where id = 2");
            Sessions.run(elsewhere, "commit");
            assertThat(call.orTimeout(10, TimeUnit.SECONDS).join()).isEqualTo("42");
        }
    }

    @Test
    void failingCommit_isTheServersError_andNoValue() {
        int pid = pid();
        StepVerifier.create(locks.exclusive(A)
                        .guard(hold -> run(hold.connection(), "insert into child values (99)")
                                .thenReturn("value")))
                .expectErrorSatisfies(error -> assertThat(error)
                        .isInstanceOf(R2dbcDataIntegrityViolationException.class)
                        .hasFieldOrPropertyWithValue("sqlState", "23503"))
                .verify(PATIENCE);
        StepVerifier.create(locks.exclusive(A)
                        .guardMany(hold -> run(hold.connection(), "insert into child values (99)")
                                .thenMany(Flux.just("a", "b"))))
                .expectNext("a", "b")
                .expectError(R2dbcDataIntegrityViolationException.class)
                .verify(PATIENCE);
        HeldLock hold = get(locks.exclusive(A).acquire());
        run(hold.connection(), "insert into child values (99)").block(PATIENCE);
        assertThatThrownBy(() -> hold.commit().block(PATIENCE))
                .isInstanceOf(R2dbcDataIntegrityViolationException.class);
        NestingClients.end(hold.release());
        assertThat(pid()).as("reused").isEqualTo(pid);
        assertThat(server.count("select count(*) from child")).isZero();
    }

    @ParameterizedTest
    @ValueSource(strings = {"commit", "rollback", "end", "abort"})
    void transactionEndedByTheWorkItself_isALoss_andNoValue(String end) {
        residue.allowLog(Level.WARN, "io.r2lock.AdvisoryLocks");
        int pid = pid();
        assertThatThrownBy(() -> locks.exclusive(A)
                        .guard(hold -> run(hold.connection(), end).thenReturn("value"))
                        .block(PATIENCE))
                .isInstanceOf(LockLostException.class);
        assertThat(pid()).as("reused").isEqualTo(pid);
    }

    @Test
    void swallowedErrorOfAStatement_isAnErrorAtCommit() {
        int pid = pid();
        assertThatThrownBy(() -> locks.exclusive(A)
                        .guard(hold -> run(hold.connection(), "update parent set v = 5")
                                .then(run(hold.connection(), "select 1 / 0").onErrorComplete())
                                .thenReturn("value"))
                        .block(PATIENCE))
                .isInstanceOf(R2dbcRollbackException.class);
        assertThat(pid()).as("reused").isEqualTo(pid);
        assertThat(server.count("select count(*) from parent where v = 5")).isZero();
    }

    /** One takes the row and then the lock, the other the lock and then the row; the one that waits longer is the victim. */
    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void deadlockOfARowAndALock_isToldByWhoIsTheVictim(boolean lockRequestIsVictim) {
        DefaultAdvisoryLocks other = clients.on(server, residue);
        AtomicInteger arrived = new AtomicInteger();
        Sinks.Empty<Void> both = Sinks.empty();
        Mono<Void> meet = Mono.defer(() -> {
            if (arrived.incrementAndGet() == 2) {
                both.tryEmitEmpty().orThrow();
            }
            return both.asMono();
        });
        String update = "update parent set v = v + 1 where id = 1";
        Mono<String> rowThenLock = other.exclusive(B)
                .guard(hold -> run(
                                hold.connection(), "set local deadlock_timeout = " + (lockRequestIsVictim ? 200 : 9000))
                        .then(run(hold.connection(), update))
                        .then(meet)
                        .then(other.exclusive(A).guard(Mono.just("done"))));
        Mono<String> lockThenRow = locks.exclusive(A)
                .guard(hold -> run(
                                hold.connection(), "set local deadlock_timeout = " + (lockRequestIsVictim ? 9000 : 200))
                        .then(meet)
                        .then(run(hold.connection(), update))
                        .thenReturn("done"));
        List<String> outcomes =
                get(Flux.mergeSequential(named(rowThenLock), named(lockThenRow)).collectList());
        assertThat(outcomes)
                .containsExactlyElementsOf(
                        lockRequestIsVictim
                                ? List.of("LockDeadlockException 40P01", "done")
                                : List.of("done", "PostgresqlTransientException 40P01"));
    }

    private static Mono<String> named(Mono<String> call) {
        return call.onErrorResume(error -> Mono.just(error.getClass().getSimpleName() + " "
                + (error instanceof R2dbcException fromDriver
                        ? fromDriver.getSqlState()
                        : ((AdvisoryLockException) error).sqlState())));
    }

    @Test
    void slowCommit_goesOn_whenItIsCancelled() {
        int pid = pid();
        AtomicInteger told = new AtomicInteger();
        Disposable call = locks.exclusive(A)
                .guard(hold ->
                        run(hold.connection(), "insert into slow values (1)").thenReturn("value"))
                .doOnSuccess(value -> told.incrementAndGet())
                .subscribe(value -> told.incrementAndGet());
        Await.until(
                "commit runs",
                () -> server.count("select count(*) from pg_stat_activity where state = 'active'"
                                + " and query = 'COMMIT' and pid = " + pid)
                        == 1);
        call.dispose();
        assertThat(isHeld(server, A)).isTrue();
        assertThat(pid()).as("reused").isEqualTo(pid);
        assertThat(server.count("select count(*) from slow")).isEqualTo(1);
    }
}
