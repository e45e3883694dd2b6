def page(plan, verdict, history):
    return ""
