package io.r2lock;

import io.r2dbc.spi.Batch;
import io.r2dbc.spi.Result;
import reactor.core.publisher.Flux;

/** A batch on the connection of a hold. */
final class HeldBatch implements Batch {

    private final LaneTicket ticket;
    private final Batch driver;

    HeldBatch(LaneTicket ticket, Batch driver) {
        this.ticket = ticket;
        this.driver = driver;
    }

    @Override
    public Batch add(String sql) {
        driver.add(sql);
        return this;
    }

    @Override
    public Flux<Result> execute() {
        return HeldResult.of(ticket, driver::execute);
    }
}
