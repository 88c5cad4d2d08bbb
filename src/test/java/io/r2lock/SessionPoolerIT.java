package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.Map;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import reactor.core.publisher.Mono;

/** Session scope through a PgBouncer: not where each transaction may have another backend. */
@SuppressWarnings("NullAway.Init")
class SessionPoolerIT {

    private static final LockKey KEY = LockKey.of(47_001);

    private static TestServer server;

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    @BeforeAll
    static void start() {
        server = TestServer.own(EmbeddedServer.NEWEST, Map.of());
    }

    @BeforeEach
    void isInstalled() {
        PgBouncer.assumeInstalled();
    }

    @AfterAll
    static void stop() {
        server.close();
    }

    @Test
    void transactionMode_isRefused_withTheReason_andTransactionScopeWorks() {
        try (PgBouncer pooler = PgBouncer.transactionMode(server, 4)) {
            DefaultAdvisoryLocks locks = clients.open(pooler.connectionFactory(), builder -> {});
            for (int i = 0; i < 2; i++) {
                for (LockRequest request : new LockRequest[] {
                    locks.exclusive(KEY),
                    locks.shared(KEY).noWait(),
                    locks.exclusive(KEY).polling()
                }) {
                    assertThatThrownBy(() ->
                                    request.inSession().guard(Mono.just(1)).block(PATIENCE))
                            .isInstanceOf(LockServerException.class)
                            .hasMessageContainingAll("session scope does not work", "pooler", "inTransaction()");
                }
                assertThat(locks.withAdvisoryLock(KEY, Mono.just(i)).block(PATIENCE))
                        .isEqualTo(i);
            }
            assertThat(server.count("select count(*) from pg_locks where locktype = 'advisory'"))
                    .isZero();
            locks.close().block(PATIENCE);
        }
    }

    @Test
    void sessionMode_isTreatedAsDirect() {
        try (PgBouncer pooler = PgBouncer.sessionMode(server, 6)) {
            DefaultAdvisoryLocks locks = clients.open(pooler.connectionFactory(), builder -> {});
            assertThat(locks.exclusive(KEY).inSession().guard(Mono.just(1)).block(PATIENCE))
                    .isEqualTo(1);
            locks.close().block(PATIENCE);
        }
    }
}
