package io.r2lock;

class InspectIT extends InspectContract {

    InspectIT() {
        super(TestServer.newest());
    }
}
