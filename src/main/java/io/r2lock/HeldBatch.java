package io.r2lock;

import io.r2dbc.spi.Batch;
import io.r2dbc.spi.Result;
import reactor.core.publisher.Flux;

/** A batch on the connection of a hold. */
final class HeldBatch implements Batch {

    private final SqlHold hold;
    private final Batch driver;
    private boolean mayFree;

    HeldBatch(SqlHold hold, Batch driver) {
        this.hold = hold;
        this.driver = driver;
    }

    @Override
    public Batch add(String sql) {
        driver.add(sql);
        mayFree |= LaneTicket.mayFree(sql);
        return this;
    }

    @Override
    public Flux<Result> execute() {
        return HeldResult.of(new LaneTicket(hold, mayFree), driver::execute);
    }
}
