package io.r2lock;

import static io.r2lock.NestingClients.get;
import static io.r2lock.NestingClients.one;
import static io.r2lock.NestingClients.rows;
import static io.r2lock.NestingClients.run;
import static org.assertj.core.api.Assertions.assertThat;

import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import io.r2dbc.postgresql.api.PostgresqlConnection;
import io.r2dbc.spi.Connection;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import java.util.function.UnaryOperator;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import reactor.core.Disposable;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;

/** What work leaves in the session of its connection, the next borrower of that connection does not find. */
abstract class Cleaning {

    private static final LockKey KEY = LockKey.of(161);

    /** What the session is like: everything that work can change and that outlives its transaction. */
    private static final List<String> STATE = List.of(
            "select current_user || '/' || session_user",
            "show search_path",
            "show timezone",
            "show application_name",
            "select coalesce(current_setting('my.setting', true), '')",
            "select count(*)::text from pg_class where relpersistence = 't' and relname = 'left_behind'",
            "select count(*)::text from pg_listening_channels()",
            "select count(*)::text from pg_cursors where is_holdable",
            "select count(*)::text from pg_locks where locktype = 'advisory' and pid = pg_backend_pid() and objid = 99",
            "show lock_timeout",
            "show statement_timeout",
            "show default_transaction_isolation",
            "show default_transaction_read_only",
            "show idle_in_transaction_session_timeout",
            "show idle_session_timeout",
            "show tcp_keepalives_idle",
            "show tcp_keepalives_interval",
            "show tcp_keepalives_count",
            "show tcp_user_timeout",
            "show client_connection_check_interval",
            "show work_mem");

    /** A raw statement each: those that a rollback would undo are made to outlive it where the server allows that. */
    private static final List<String> LITTER = List.of(
            "set my.setting = 'left'",
            "set search_path = pg_temp",
            "select set_config('timezone', 'Asia/Tokyo', false)",
            "select set_config('application_name', 'left', false)",
            "set lock_timeout = '9s'",
            "set statement_timeout = '19s'",
            "set default_transaction_isolation = 'serializable'",
            "set default_transaction_read_only = on",
            "set idle_in_transaction_session_timeout = '77s'",
            "set idle_session_timeout = '77s'",
            "set tcp_user_timeout = 77000",
            "set client_connection_check_interval = 77000",
            "set work_mem = '77MB'",
            "create temp table left_behind (id int)",
            "listen left_behind",
            "declare left_behind cursor with hold for select generate_series(1, 10)",
            "select pg_advisory_lock(99)",
            "select pg_advisory_lock_shared(99)",
            "prepare left_behind as select 1",
            "set role cleaning_other",
            "set session authorization cleaning_other");

    final TestServer server;

    @RegisterExtension
    @Order(1)
    final NestingClients clients = new NestingClients();

    @RegisterExtension
    @Order(2)
    final NoResidue residue;

    private DefaultAdvisoryLocks locks;

    Cleaning(TestServer server) {
        this.server = server;
        this.residue = NoResidue.on(server);
    }

    @BeforeEach
    void prepare() {
        server.execute(
                "do $$begin create role cleaning_other; exception when duplicate_object then null; end$$",
                "do $$begin create role cleaning superuser login password 'x'; exception when duplicate_object then null; end$$",
                "alter role cleaning set lock_timeout = '5s'",
                "alter role cleaning set statement_timeout = '7s'");
        locks = client(builder -> builder.connectionSetting("work_mem", "12MB"));
    }

    private DefaultAdvisoryLocks client(UnaryOperator<AdvisoryLocks.Builder> change) {
        AdvisoryLocks.Builder builder = AdvisoryLocks.builder(new PostgresqlConnectionFactory(
                server.configuration().username("cleaning").password("x").build()));
        return clients.with(builder.maxConnections(1), residue, change);
    }

    private static Mono<List<String>> state(Connection connection) {
        return Flux.fromIterable(STATE)
                .concatMap(sql -> one(connection, sql).map(value -> sql + ": " + value))
                .collectList();
    }

    private static Mono<Void> litter(Connection connection) {
        return Flux.fromIterable(LITTER).concatMap(sql -> run(connection, sql)).then();
    }

    private <T> T inHold(Function<HeldLock, Mono<T>> work) {
        return get(locks.exclusive(KEY).guard(work));
    }

    private enum End {
        COMMIT,
        ROLLBACK,
        CANCEL
    }

    @ParameterizedTest
    @EnumSource
    void whatWorkLeaves_isGone_forTheNextBorrower(End end) {
        int pid = inHold(hold -> Mono.just(hold.backendPid()));
        List<String> before = inHold(hold -> state(hold.connection()));
        List<String> prepared = inHold(hold -> rows(hold.connection(), "select $1::int + 1", 1));
        assertThat(before)
                .contains("show lock_timeout: 5s", "show statement_timeout: 7s", "show application_name: r2lock")
                .contains("show work_mem: 12MB", "show tcp_user_timeout: 13000", "show idle_session_timeout: 0");

        Sinks.Empty<Void> littered = Sinks.empty();
        Disposable call = locks.exclusive(KEY)
                .guard(hold -> litter(hold.connection())
                        .doOnSuccess(done -> littered.tryEmitEmpty())
                        .then(
                                switch (end) {
                                    case COMMIT -> Mono.just(1);
                                    case ROLLBACK -> Mono.<Integer>error(new IllegalArgumentException("rolls back"));
                                    case CANCEL -> Mono.<Integer>never();
                                }))
                .subscribe(done -> {}, error -> littered.tryEmitError(error));
        littered.asMono().block(NestingClients.PATIENCE);
        if (end == End.CANCEL) {
            call.dispose();
        }

        String after = inHold(hold -> state(hold.connection()).map(state -> hold.backendPid() + " " + state));
        assertThat(after).isEqualTo(pid + " " + before);
        List<String> again = inHold(hold -> rows(hold.connection(), "select $1::int + 1", 1));
        assertThat(again).isEqualTo(prepared);
        assertThat(server.count("select count(*) from pg_locks where locktype = 'advisory' and objid = 99"))
                .isZero();
    }

    @Test
    void cursorsAndPlansOfTheDriver_surviveTheCleaning() {
        List<Integer> pids = get(Flux.range(0, 10)
                .concatMap(i -> locks.exclusive(KEY)
                        .guard(hold -> rows(hold.connection(), "select pg_backend_pid() + $1", 0)
                                .then(litterWithoutRole(hold.connection()))
                                .thenReturn(hold.backendPid())))
                .distinct()
                .collectList());
        assertThat(pids).hasSize(1);
    }

    private static Mono<Void> litterWithoutRole(Connection connection) {
        return run(connection, "set search_path = pg_temp")
                .then(run(connection, "create temp table left_behind (id int)"));
    }

    @Test
    void limitsOfTheRole_areSeenByTheWork_andDoNotLimitTheWaits() {
        server.execute(
                "alter role cleaning set lock_timeout = '100ms'",
                "alter role cleaning set statement_timeout = '100ms'");
        // two connections: with one, it would poll and not wait on the server
        DefaultAdvisoryLocks limited = client(builder -> builder.maxConnections(2));
        try (Sessions sessions = new Sessions(server)) {
            PostgresqlConnection elsewhere = sessions.open();
            for (boolean nested : List.of(false, true)) {
                Sessions.run(elsewhere, "select pg_advisory_lock(162)");
                LockRequest waits = limited.exclusive(LockKey.of(162));
                Mono<String> seen = waits.guard(hold -> one(
                        hold.connection(),
                        "select current_setting('lock_timeout') || ' ' || current_setting('statement_timeout')"));
                CompletableFuture<String> call =
                        (nested ? limited.exclusive(KEY).guard(seen) : seen).toFuture();
                sessions.awaitWaiting(1);
                Mono.delay(Duration.ofMillis(300)).block(NestingClients.PATIENCE);
                Sessions.run(elsewhere, "select pg_advisory_unlock(162)");
                assertThat(call.orTimeout(10, TimeUnit.SECONDS).join()).isEqualTo("100ms 100ms");
            }
        }
    }

    @Test
    void cleaningThatFails_letsNobodyHoldALockOnAnUncleanConnection() {
        // the role may not run a part of the cleaning any more: an unclean connection could be used, and is not
        server.execute(
                "do $$begin create role cleaning_fails login password 'x'; exception when duplicate_object then null; end$$",
                "revoke execute on function pg_advisory_unlock_all() from public");
        try {
            AdvisoryLocks.Builder builder = AdvisoryLocks.builder(new PostgresqlConnectionFactory(server.configuration()
                    .username("cleaning_fails")
                    .password("x")
                    .build()));
            DefaultAdvisoryLocks failing = clients.with(builder.maxConnections(1), residue, same -> same);
            List<String> first = get(failing.exclusive(KEY)
                    .guard(hold -> run(hold.connection(), "set my.setting = 'left'")
                            .then(run(hold.connection(), "select pg_advisory_lock(99)"))
                            .thenReturn(List.of("" + hold.backendPid()))));
            List<String> next = get(Flux.range(0, 5)
                    .concatMap(i -> failing.exclusive(LockKey.of(170 + i))
                            .guard(hold ->
                                    rows(hold.connection(), "select coalesce(current_setting('my.setting', true), '')"))
                            .flatMapIterable(row -> row))
                    .collectList());
            assertThat(next).hasSize(5).containsOnly("");
            assertThat(server.query("select pid from pg_stat_activity where pid = " + first.get(0)))
                    .isEmpty();
        } finally {
            server.execute("grant execute on function pg_advisory_unlock_all() to public");
        }
    }
}
