package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatCode;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.netty.buffer.ByteBufAllocator;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.assertj.core.api.ThrowableAssert.ThrowingCallable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.slf4j.LoggerFactory;
import org.slf4j.event.Level;
import reactor.core.publisher.Operators;
import reactor.util.context.Context;

/** Plants each kind of residue and sees it found. Not registered as an extension: this class calls it. */
class NoResidueIT {

    private final TestServer server = TestServer.newest();
    private final NoResidue residue = NoResidue.on(server).patience(Duration.ofMillis(50));

    @BeforeEach
    void begin() {
        BufferLeaks.watch();
        residue.begin();
    }

    @AfterEach
    void end() {
        residue.end();
    }

    @Test
    void nothingLeft_passes() {
        assertThatCode(residue::check).doesNotThrowAnyException();
    }

    @Test
    void advisoryLock_isFound_unlessItIsForeign() throws SQLException {
        try (Connection connection = server.connect();
                Statement statement = connection.createStatement()) {
            statement.execute("select pg_advisory_lock(4711)");
            assertFound(residue::check, "PostgreSQL 18: advisory lock: ", "objid=4711", "application_name=test-bed");

            residue.foreign(pid(statement));
            assertThatCode(residue::check).doesNotThrowAnyException();
        }
    }

    @Test
    void openTransaction_isFound_ifItIsOurs() throws SQLException {
        try (Connection connection = server.connect();
                Statement statement = connection.createStatement()) {
            connection.setAutoCommit(false);
            statement.execute("select 42");
            assertThatCode(residue::check).doesNotThrowAnyException();

            statement.execute("set application_name = 'r2lock-test'");
            assertFound(residue::check, "PostgreSQL 18: backend: ", "state=idle in transaction");
            connection.rollback();
        }
    }

    @Test
    void whatIsStillOnItsWay_isWaitedFor() {
        AtomicInteger pending = new AtomicInteger(1);
        residue.patience(NoResidue.PATIENCE).zero("pending", pending::get);
        CompletableFuture.delayedExecutor(100, TimeUnit.MILLISECONDS).execute(() -> pending.set(0));
        assertThatCode(residue::check).doesNotThrowAnyException();
    }

    @Test
    void gauge_isFound() {
        residue.zero("pool acquired", () -> 3);
        assertFound(residue::check, "pool acquired = 3");
    }

    @Test
    void serverThatIsDown_isFound_andAClosedOneIsNot() {
        try (TestServer own = TestServer.own(18, Map.of())) {
            residue.watch(own);
            own.stop();
            assertFound(residue::check, "cannot be asked");
        }
        assertThatCode(residue::check).doesNotThrowAnyException();
    }

    @Test
    void droppedError_isFound_unlessAllowed() {
        Operators.onErrorDropped(new IllegalStateException("planted"), Context.empty());
        assertFound(residue::check, "dropped error: java.lang.IllegalStateException: planted");

        residue.allowDroppedErrors();
        assertThatCode(residue::check).doesNotThrowAnyException();
    }

    @Test
    void droppedValue_isFound_ifAskedFor() {
        Operators.onNextDropped("before", Context.empty());
        residue.noDroppedValues();
        assertThatCode(residue::check).doesNotThrowAnyException();

        Operators.onNextDropped("planted", Context.empty());
        assertFound(residue::check, "dropped value: planted");
    }

    @Test
    void warning_isFound_unlessAllowed() {
        LoggerFactory.getLogger("io.r2lock.Planted").info("of no interest");
        LoggerFactory.getLogger("org.example").error("not ours");
        assertThatCode(residue::check).doesNotThrowAnyException();

        LoggerFactory.getLogger("io.r2lock.Planted").warn("planted");
        assertFound(residue::check, "log: WARN io.r2lock.Planted - planted");

        residue.allowLog(Level.WARN, "io.r2lock.Planted");
        assertThatCode(residue::check).doesNotThrowAnyException();
        LoggerFactory.getLogger("io.r2lock.Planted").error("worse");
        assertFound(residue::check, "log: ERROR io.r2lock.Planted - worse");
    }

    @Test
    void leakedBuffer_isFound() {
        assertThatCode(residue::checkLeaks).doesNotThrowAnyException();
        leak();
        assertFound(residue::checkLeaks, "LEAK: ByteBuf.release() was not called");
    }

    private static void leak() {
        ByteBufAllocator.DEFAULT.buffer(64).writeInt(42);
    }

    private static void assertFound(ThrowingCallable check, String... parts) {
        assertThatThrownBy(check).isInstanceOf(AssertionError.class).hasMessageContainingAll(parts);
    }

    private static int pid(Statement statement) throws SQLException {
        try (ResultSet result = statement.executeQuery("select pg_backend_pid()")) {
            assertThat(result.next()).isTrue();
            return result.getInt(1);
        }
    }
}
