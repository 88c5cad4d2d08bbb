package io.r2lock;

class AmbientTroubleIT extends AmbientTroubleContract {

    AmbientTroubleIT() {
        super(TestServer.newest());
    }
}
