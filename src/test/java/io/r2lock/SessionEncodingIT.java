package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import reactor.core.publisher.Mono;

/** A database that is not UTF-8, where the hash of a text that is not ASCII is another one. */
class SessionEncodingIT {

    private static final LockKey FIT = LockKey.hashtextExtended("ascii", 0);
    private static final LockKey UNFIT = LockKey.hashtextExtended("é", 0);

    private final TestServer server = TestServer.newest();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    @BeforeEach
    void create() {
        server.execute("create database latin encoding 'LATIN1' lc_collate 'C' lc_ctype 'C' template template0");
    }

    @AfterEach
    void drop() {
        server.execute("drop database latin with (force)");
    }

    private AdvisoryLocks open() {
        return clients.open(
                new PostgresqlConnectionFactory(
                        server.configuration().database("latin").build()),
                builder -> {});
    }

    private static void assertRefused(LockRequest request) {
        assertThatThrownBy(() -> request.guard(Mono.just(1)).block(PATIENCE))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContainingAll(UNFIT.toString(), "LATIN1");
    }

    @Test
    void aKeyThatMeansNothingThere_isRefused_whetherTheConnectionIsOpenOrNot() {
        AdvisoryLocks locks = open();
        for (int round = 0; round < 2; round++) {
            for (LockRequest request : List.of(
                    locks.exclusive(UNFIT),
                    locks.exclusive(UNFIT).inSession(),
                    locks.exclusive(FIT, UNFIT).inSession())) {
                assertRefused(request);
            }
            assertThat(locks.exclusive(FIT).inSession().guard(Mono.just(1)).block(PATIENCE))
                    .isEqualTo(1);
        }
        // of a permit's key only its number counts, which is the same in every client
        assertThat(locks.permit(UNFIT, 2).guard(Mono.just(1)).block(PATIENCE)).isEqualTo(1);
    }
}
