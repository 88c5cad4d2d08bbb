package io.r2lock;

import static io.r2lock.NestingClients.get;
import static io.r2lock.NestingClients.isHeld;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import io.r2dbc.spi.Connection;
import java.lang.reflect.Proxy;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import reactor.core.Disposable;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;

/** What is not joined, and what is forgotten, of the transactions that somebody else owns. */
abstract class AmbientRefusalContract {

    private static final LockKey A = LockKey.of(156);

    private final TestServer server;
    private final Sessions sessions;

    @RegisterExtension
    @Order(1)
    final NestingClients clients = new NestingClients();

    @RegisterExtension
    @Order(2)
    final NoResidue residue;

    private DefaultAdvisoryLocks locks;

    AmbientRefusalContract(TestServer server) {
        this.server = server;
        this.sessions = new Sessions(server);
        this.residue = NoResidue.on(server);
    }

    @BeforeEach
    void prepare() {
        server.execute("create table if not exists ambient_refusal (id int)", "truncate ambient_refusal");
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
        return server.count("select count(*) from ambient_refusal");
    }

    @ParameterizedTest
    @ValueSource(strings = {"repeatable read", "serializable"})
    void olderSnapshots_areRefused(String isolation) {
        OwnedTransaction transaction = OwnedTransaction.begin(sessions.open(), isolation);
        assertThatThrownBy(() -> transaction.run(locks.withAdvisoryLock(A, Mono.just(1))))
                .isInstanceOf(IllegalStateException.class)
                .hasMessageContaining(isolation);
        assertThat(isHeld(server, A)).isFalse();
        transaction.sql("insert into ambient_refusal values (1)");
        transaction.commit();
        assertThat(written()).isEqualTo(1);
    }

    @Test
    void connectionWithoutATransaction_isRefused_andNothingIsLeft() {
        OwnedTransaction none = OwnedTransaction.notBegun(sessions.open());
        for (LockRequest request :
                new LockRequest[] {locks.exclusive(A), locks.exclusive(A).noWait()}) {
            assertThatThrownBy(() -> none.run(request.guard(Mono.just(1))))
                    .isInstanceOf(IllegalStateException.class)
                    .hasMessageContaining("not in a transaction");
        }
        assertThat(isHeld(server, A)).isFalse();
        assertThat(none.ask("select current_setting('statement_timeout')")).isEqualTo("0");
        none.completes();
    }

    @Test
    void transactionThatHasFailed_isToldByTheServersError() {
        OwnedTransaction transaction = begin();
        assertThatThrownBy(() -> transaction.sql("select 1/0")).isNotNull();
        assertThatThrownBy(() -> transaction.run(locks.withAdvisoryLock(A, Mono.just(1))))
                .isInstanceOf(LockServerException.class)
                .hasMessageContaining("25P02");
        transaction.rollback();
    }

    private record Other(Connection given) implements AmbientTransaction.Participation {

        @Override
        public Connection connection() {
            return given;
        }

        @Override
        public Object transaction() {
            return this;
        }

        @Override
        public Mono<Void> completion() {
            return Mono.never();
        }
    }

    @Test
    void connectionOfAnotherDriver_isRefused() {
        Connection foreign = (Connection) Proxy.newProxyInstance(
                getClass().getClassLoader(),
                new Class<?>[] {Connection.class},
                (self, method, arguments) -> method.getName().equals("toString") ? "foreign" : null);
        DefaultAdvisoryLocks on =
                clients.on(server, residue, builder -> builder.ambientTransaction(() -> Mono.just(new Other(foreign))));
        assertThatThrownBy(() -> get(on.withAdvisoryLock(A, Mono.just(1))))
                .isInstanceOf(IllegalStateException.class)
                .hasMessageContaining("r2dbc-postgresql")
                .hasMessageContaining("foreign");
    }

    @Test
    void lookupThatFails_isTheRequestsError_andOneThatIsCancelledTakesNothing() {
        DefaultAdvisoryLocks failing = clients.on(
                server,
                residue,
                builder -> builder.ambientTransaction(() -> Mono.error(new IllegalArgumentException("lookup"))));
        assertThatThrownBy(() -> get(failing.withAdvisoryLock(A, Mono.just(1)))).hasMessage("lookup");
        assertThat(failing.live() + failing.waiting()).isZero();

        OwnedTransaction transaction = begin();
        Sinks.One<AmbientTransaction.Participation> answer = Sinks.one();
        DefaultAdvisoryLocks late = clients.on(server, residue, builder -> builder.ambientTransaction(answer::asMono));
        AtomicInteger started = new AtomicInteger();
        Disposable call = late.withAdvisoryLock(A, Mono.fromSupplier(started::incrementAndGet))
                .subscribe();
        call.dispose();
        answer.tryEmitValue(transaction).orThrow();
        transaction.ask("select 1");
        assertThat(isHeld(server, A)).isFalse();
        assertThat(started).hasValue(0);
        assertThat(late.live() + late.waiting()).isZero();
        int joined = get(late.exclusive(A).guard(hold -> Mono.just(hold.backendPid())));
        assertThat(joined).isEqualTo(transaction.pid());
        transaction.commit();
    }

    @Test
    void transactionWhoseEndIsNeverTold_isForgotten() {
        DefaultAdvisoryLocks on = clients.on(
                server,
                residue,
                builder -> builder.ambientTransaction(() -> Mono.deferContextual(
                        context -> Mono.justOrEmpty(context.getOrEmpty(AmbientTransaction.Participation.class)))));
        PostgresqlConnection connection = sessions.open();
        Sessions.run(connection, "begin");
        for (int i = 0; i < 100; i++) {
            Other silent = new Other(connection);
            get(on.withAdvisoryLock(A, Mono.just(1))
                    .contextWrite(context -> context.put(AmbientTransaction.Participation.class, silent)));
        }
        Sessions.run(connection, "rollback");
        Await.until("forgotten", () -> {
            System.gc();
            return on.ambient() <= 1;
        });
    }
}
