package io.r2lock;

import io.r2dbc.spi.Result;
import io.r2dbc.spi.Statement;
import reactor.core.publisher.Flux;

/** A statement on the connection of a hold: bindings go to the driver's own, execution goes through the {@link Lane}. */
final class HeldStatement implements Statement {

    private final SqlHold hold;
    private final Statement driver;
    private final boolean mayFree;
    private boolean bound;

    HeldStatement(SqlHold hold, Statement driver, boolean mayFree) {
        this.hold = hold;
        this.driver = driver;
        this.mayFree = mayFree;
    }

    @Override
    public Flux<Result> execute() {
        LaneTicket ticket = new LaneTicket(hold, mayFree);
        return bound ? HeldResult.ofBindings(ticket, driver::execute) : HeldResult.of(ticket, driver::execute);
    }

    @Override
    public Statement add() {
        driver.add();
        return this;
    }

    @Override
    public Statement bind(int index, Object value) {
        bound = true;
        driver.bind(index, value);
        return this;
    }

    @Override
    public Statement bind(String name, Object value) {
        bound = true;
        driver.bind(name, value);
        return this;
    }

    @Override
    public Statement bindNull(int index, Class<?> type) {
        bound = true;
        driver.bindNull(index, type);
        return this;
    }

    @Override
    public Statement bindNull(String name, Class<?> type) {
        bound = true;
        driver.bindNull(name, type);
        return this;
    }

    @Override
    public Statement returnGeneratedValues(String... columns) {
        driver.returnGeneratedValues(columns);
        return this;
    }

    @Override
    public Statement fetchSize(int rows) {
        driver.fetchSize(rows);
        return this;
    }

    @Override
    public String toString() {
        return driver.toString();
    }
}
