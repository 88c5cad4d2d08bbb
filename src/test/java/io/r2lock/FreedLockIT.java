package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import reactor.core.publisher.Mono;

class FreedLockIT extends FreedLock {

    FreedLockIT() {
        super(TestServer.newest());
    }

    @Test
    void prepareTransaction_takesTheLockAway() {
        try (TestServer own = TestServer.own(18, Map.of("max_prepared_transactions", "5"))) {
            own.execute("create table freed (id int)");
            locks = clients.open(
                    own,
                    builder -> builder.maxConnections(1).listener(new LockListener() {
                        @Override
                        public void lost(List<LockKey> keys, LockMode mode, Duration age, String why) {
                            losses.add(why);
                        }
                    }));
            int lost = 0;
            for (Way way : Way.values()) {
                assertPrepared(own, way, ++lost);
            }
            clients.close();
        }
    }

    private void assertPrepared(TestServer own, Way way, int lost) {
        assertThatThrownBy(() -> locks.exclusive(LockKey.of(10_211))
                        .guard((HeldLock hold) -> insert(hold, 1)
                                .then(way.send(hold.connection(), "prepare transaction 'gone'"))
                                .then(way.isRead() ? insert(hold, 2) : Mono.empty())
                                .thenReturn("value"))
                        .block(TestClients.PATIENCE))
                .as(way.name())
                .isInstanceOf(LockLostException.class);
        assertThat(losses).hasSize(lost);
        assertThat(own.count("select count(*) from pg_locks where locktype = 'advisory'"))
                .as("it went with the prepared transaction")
                .isEqualTo(1);
        own.execute("rollback prepared 'gone'");
        assertThat(own.count("select count(*) from freed")).isZero();
    }
}
