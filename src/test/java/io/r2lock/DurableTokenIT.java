package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.acquire;
import static io.r2lock.TestClients.holdElsewhere;
import static io.r2lock.TestClients.release;
import static org.assertj.core.api.Assertions.assertThat;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.function.UnaryOperator;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.slf4j.event.Level;

/** A server that is killed: a durable token is smaller than those after it, a plain one may come again. */
class DurableTokenIT {

    private static final Logger LOG = LoggerFactory.getLogger(DurableTokenIT.class);

    private static final LockKey A = LockKey.of(831);
    private static final int ROUNDS = 4;

    // its log writer rests, so that nothing but the token's own flush makes an id durable
    private static final TestServer SERVER = TestServer.own(
            EmbeddedServer.NEWEST,
            Map.of("wal_writer_delay", "10000", "wal_writer_flush_after", "0", "synchronous_commit", "off"));

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(SERVER);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    @AfterAll
    static void stop() {
        SERVER.close();
    }

    private static FencingToken token(HeldLock hold) {
        return Objects.requireNonNull(hold.fencingToken().block(PATIENCE));
    }

    /** Whether the token of a hold after the crash is larger than that of one before it. */
    private boolean growsOverACrash(DefaultAdvisoryLocks locks, UnaryOperator<LockRequest> how) {
        HeldLock before = acquire(how.apply(locks.exclusive(A)));
        FencingToken old = token(before);
        SERVER.crash();
        release(before);
        SERVER.start();
        HeldLock after = acquire(how.apply(locks.exclusive(A)));
        FencingToken next = token(after);
        release(after);
        LOG.info("before the crash {}, after it {}", old, next);
        return next.compareTo(old) > 0;
    }

    /** The id of a transaction that has written nothing is in no log: its holds show it best. */
    @Test
    void durableTokensGrow_andPlainOnesMayRepeat() {
        residue.allowLog(Level.WARN, "io.r2lock.AdvisoryLocks"); // the loss
        DefaultAdvisoryLocks locks = clients.open(SERVER);
        int durable = 0;
        int plain = 0;
        for (int i = 0; i < ROUNDS; i++) {
            durable += growsOverACrash(locks, request -> request.inSession().durableTokens()) ? 1 : 0;
            plain += growsOverACrash(locks, LockRequest::inTransaction) ? 1 : 0;
        }
        assertThat(durable).isEqualTo(ROUNDS);
        assertThat(plain).as("the reason why there are durable ones").isLessThan(ROUNDS);
    }

    @Test
    void alsoOnAConnectionThatWaited() {
        DefaultAdvisoryLocks locks = clients.open(SERVER);
        try (Sessions sessions = new Sessions(SERVER)) {
            PostgresqlConnection elsewhere = holdElsewhere(sessions, A.value());
            CompletableFuture<HeldLock> waiting =
                    locks.exclusive(A).inSession().durableTokens().acquire().toFuture();
            sessions.awaitWaiting(1);
            TestClients.free(elsewhere, A.value());
            HeldLock hold = waiting.join();
            long unflushed = SERVER.count("select (pg_current_wal_insert_lsn() - pg_current_wal_flush_lsn())::bigint");
            long before = SERVER.count("select (pg_current_wal_flush_lsn() - '0/0')::bigint");
            token(hold);
            assertThat(SERVER.count("select (pg_current_wal_flush_lsn() - '0/0')::bigint"))
                    .as("flushed, with %s bytes before", unflushed)
                    .isGreaterThan(before);
            release(hold);
        }
    }
}
