package io.r2lock;

class CleaningIT extends Cleaning {

    CleaningIT() {
        super(TestServer.newest());
    }
}
