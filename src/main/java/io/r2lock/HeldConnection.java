package io.r2lock;

import io.r2dbc.spi.Batch;
import io.r2dbc.spi.Connection;
import io.r2dbc.spi.ConnectionMetadata;
import io.r2dbc.spi.IsolationLevel;
import io.r2dbc.spi.Statement;
import io.r2dbc.spi.TransactionDefinition;
import io.r2dbc.spi.ValidationDepth;
import java.time.Duration;
import org.reactivestreams.Publisher;
import reactor.core.publisher.Mono;

/**
 * The user's view of the connection that holds a lock: it runs statements, in the connection's {@link Lane}, and cannot end
 * the transaction. Deliberately no {@link io.r2dbc.spi.Wrapped}: whoever unwraps would get the real one.
 */
final class HeldConnection implements Connection {

    private final SqlHold hold;

    HeldConnection(SqlHold hold) {
        this.hold = hold;
    }

    private Connection wire() {
        return hold.wire();
    }

    /** An operation of the driver that is one statement. */
    private <T> Mono<T> inLane(Publisher<T> operation) {
        return inLane(operation, false);
    }

    private <T> Mono<T> inLane(Publisher<T> operation, boolean mayFree) {
        return Mono.from(new LaneStream<T>(new LaneTicket(hold, mayFree), reader -> operation, discarded -> {}));
    }

    private <T> Mono<T> refused(String operation) {
        return Mono.error(
                () -> new IllegalStateException(operation + " is refused on the connection of a held lock: it would"
                        + " end, or change, the transaction that holds the " + hold.attempt()
                        + ". Complete the work to commit, or let it fail to roll back."));
    }

    @Override
    public Mono<Void> beginTransaction() {
        return refused("beginTransaction()");
    }

    @Override
    public Mono<Void> beginTransaction(TransactionDefinition definition) {
        return refused("beginTransaction(definition)");
    }

    @Override
    public Mono<Void> commitTransaction() {
        return refused("commitTransaction()");
    }

    @Override
    public Mono<Void> rollbackTransaction() {
        return refused("rollbackTransaction()");
    }

    @Override
    public Mono<Void> setAutoCommit(boolean autoCommit) {
        return autoCommit ? refused("setAutoCommit(true)") : Mono.empty();
    }

    @Override
    public Mono<Void> setTransactionIsolationLevel(IsolationLevel isolationLevel) {
        return refused("setTransactionIsolationLevel(" + isolationLevel + ")");
    }

    @Override
    public Mono<Void> close() {
        return Mono.empty();
    }

    @Override
    public Batch createBatch() {
        return new HeldBatch(hold, wire().createBatch());
    }

    @Override
    public Statement createStatement(String sql) {
        return new HeldStatement(hold, wire().createStatement(sql), LaneTicket.mayFree(sql));
    }

    @Override
    public Mono<Void> createSavepoint(String name) {
        return inLane(wire().createSavepoint(name));
    }

    @Override
    public Mono<Void> releaseSavepoint(String name) {
        return inLane(wire().releaseSavepoint(name));
    }

    @Override
    public Mono<Void> rollbackTransactionToSavepoint(String name) {
        return inLane(wire().rollbackTransactionToSavepoint(name), true);
    }

    @Override
    public Mono<Void> setLockWaitTimeout(Duration timeout) {
        return inLane(wire().setLockWaitTimeout(timeout));
    }

    @Override
    public Mono<Void> setStatementTimeout(Duration timeout) {
        return inLane(wire().setStatementTimeout(timeout));
    }

    @Override
    public Mono<Boolean> validate(ValidationDepth depth) {
        return depth == ValidationDepth.LOCAL
                ? Mono.fromSupplier(() -> hold.isLive() && hold.isUsable())
                : inLane(wire().validate(depth)).onErrorReturn(false);
    }

    @Override
    public boolean isAutoCommit() {
        return false;
    }

    @Override
    public IsolationLevel getTransactionIsolationLevel() {
        return IsolationLevel.READ_COMMITTED;
    }

    @Override
    public ConnectionMetadata getMetadata() {
        return wire().getMetadata();
    }

    @Override
    public String toString() {
        return "connection of backend " + hold.backendPid() + " holding the " + hold.attempt();
    }
}
