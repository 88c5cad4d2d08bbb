package io.r2lock;

import static io.r2lock.NestingClients.get;
import static io.r2lock.NestingClients.isHeld;
import static io.r2lock.NestingClients.one;
import static io.r2lock.NestingClients.run;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.r2dbc.pool.ConnectionPool;
import io.r2dbc.pool.ConnectionPoolConfiguration;
import io.r2dbc.spi.Connection;
import io.r2dbc.spi.ConnectionFactory;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.springframework.r2dbc.connection.ConnectionHolder;
import org.springframework.r2dbc.connection.R2dbcTransactionManager;
import org.springframework.r2dbc.core.DatabaseClient;
import org.springframework.transaction.NoTransactionException;
import org.springframework.transaction.reactive.TransactionSynchronization;
import org.springframework.transaction.reactive.TransactionSynchronizationManager;
import org.springframework.transaction.reactive.TransactionalOperator;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Schedulers;

/** Transactions of Spring's can be joined with nothing but the public API, through a pool. */
class SpringAmbientIT {

    private static final LockKey A = LockKey.of(171);

    private final TestServer server = TestServer.newest();

    @RegisterExtension
    @Order(1)
    final NestingClients clients = new NestingClients();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    private final ConnectionPool pool =
            new ConnectionPool(ConnectionPoolConfiguration.builder(server.connectionFactory())
                    .maxSize(2)
                    .build());
    private final TransactionalOperator transactions = TransactionalOperator.create(new R2dbcTransactionManager(pool));
    private final DatabaseClient database = DatabaseClient.create(pool);
    private DefaultAdvisoryLocks locks;

    private record SpringTransactions(ConnectionFactory factory) implements AmbientTransaction {

        @Override
        public Mono<Participation> current() {
            return TransactionSynchronizationManager.forCurrentTransaction()
                    .filter(manager -> manager.isActualTransactionActive() && manager.isSynchronizationActive())
                    .flatMap(manager -> manager.getResource(factory) instanceof ConnectionHolder holder
                            ? Mono.just(new SpringTransaction(manager, holder))
                            : Mono.empty())
                    .cast(Participation.class)
                    .onErrorResume(NoTransactionException.class, error -> Mono.empty());
        }
    }

    private record SpringTransaction(TransactionSynchronizationManager manager, ConnectionHolder holder)
            implements AmbientTransaction.Participation {

        @Override
        public Connection connection() {
            return holder.getConnection();
        }

        @Override
        public Object transaction() {
            return holder;
        }

        @Override
        public Mono<Void> completion() {
            return Mono.create(sink -> manager.registerSynchronization(new TransactionSynchronization() {
                @Override
                public Mono<Void> beforeCompletion() {
                    return Mono.fromRunnable(sink::success);
                }
            }));
        }
    }

    @BeforeEach
    void prepare() {
        server.execute("create table if not exists spring_ambient (id int)", "truncate spring_ambient");
        locks = clients.with(
                AdvisoryLocks.builder(pool),
                residue,
                builder -> builder.ambientTransaction(new SpringTransactions(pool)));
        residue.zero("ambient transactions", locks::ambient);
        residue.zero("the user's pool", () -> pool.getMetrics().orElseThrow().acquiredSize());
    }

    @AfterEach
    void close() {
        pool.disposeLater().block(NestingClients.PATIENCE);
    }

    private Mono<Integer> insert(int id) {
        return database.sql("insert into spring_ambient values (" + id + ")")
                .fetch()
                .rowsUpdated()
                .thenReturn(id);
    }

    private Mono<Boolean> held() {
        return Mono.fromSupplier(() -> isHeld(server, A)).subscribeOn(Schedulers.boundedElastic());
    }

    private long written() {
        return server.count("select count(*) from spring_ambient");
    }

    @Test
    void lockAndWrites_areInOneTransaction() {
        List<Object> seen = get(transactions.transactional(locks.exclusive(A)
                .guard(hold -> insert(1)
                        .then(run(hold.connection(), "insert into spring_ambient values (2)"))
                        .then(one(hold.connection(), "select count(*) from spring_ambient")))
                .zipWhen(count -> held())
                .map(both -> List.of(both.getT1(), both.getT2()))));
        assertThat(seen).containsExactly("2", true);
        assertThat(locks.connections().allocated()).isZero();
        assertThat(isHeld(server, A)).isFalse();
        assertThat(written()).isEqualTo(2);
    }

    @Test
    void rollbackBySpring_undoesAll() {
        assertThatThrownBy(() -> get(transactions.transactional(
                        locks.withAdvisoryLock(A, insert(1)).then(Mono.error(new IllegalArgumentException("later"))))))
                .hasMessage("later");
        assertThat(written()).isZero();
        assertThat(isHeld(server, A)).isFalse();
    }

    @Test
    void siblingsInOneTransaction_takeTurns_andTwoTransactionsExcludeEachOther() {
        Mono<Long> transaction = transactions.transactional(Flux.range(0, 10)
                .flatMap(i -> locks.withAdvisoryLock(A, addOne()))
                .count());
        get(Flux.merge(transaction, transaction, transaction).count());
        assertThat(written()).as("each read what the one before had written").isEqualTo(30);
        assertThat(server.count("select max(id) from spring_ambient")).isEqualTo(30);
    }

    /** A lost update would show as a number that occurs twice. */
    private Mono<Integer> addOne() {
        return database.sql("select count(*) from spring_ambient")
                .map(row -> row.get(0, Long.class))
                .one()
                .flatMap(count -> insert(count.intValue() + 1));
    }

    @Test
    void outsideOfTransactions_requestsAreAsEver() {
        assertThat(get(locks.withAdvisoryLock(A, Mono.just(1)))).isEqualTo(1);
        assertThat(locks.connections().allocated()).isEqualTo(1);
    }
}
